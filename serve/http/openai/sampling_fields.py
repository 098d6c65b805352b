"""Fields that completions and chats share: OpenAI's, vLLM's additions, and those of `SamplingParams`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from serve.errors import InputError
from serve.http.body import FirstError, Strings
from serve.http.nullable_body import NullableBody
from serve.http.openai.protocol import StreamOptions, check_neutral
from serve.http.openai.structured_output import FREE, ResponseFormat, StructuredOutputs, TextForm
from serve.requests import GenerationRequest, PromptInput
from serve.sampling_params import CLIENT_NAMES, OTHER_NAMES, SamplingParams, check_bias_count, from_client

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "spaces_between_special_tokens": (True,),
}
"""Values that change nothing, by field; others are refused."""


def _check_biases(given: Any) -> Any:
    """Refuse too many biases before their keys become numbers, which a client can choose to be slow to hash."""
    if isinstance(given, dict):
        check_bias_count(given)
    return given


TokenIds = Annotated[list[int], FirstError()]


class SamplingFields(NullableBody):
    """The model, and how its tokens are chosen and returned."""

    model: Annotated[
        str | None,
        Field(description="name of the adapter, or `base` for the base model; optional if there is only one"),
    ] = None
    truncate: Annotated[bool, Field(description="cut prompts that are too long instead of refusing them")] = False
    truncate_prompt_tokens: Annotated[
        int | None, Field(ge=-1, description="cut prompts to so many tokens; -1 is the same as truncate")
    ] = None
    max_tokens: Annotated[
        int | None, Field(description="64 by default, or what the context leaves; 0 only reads the prompt")
    ] = None
    min_tokens: int = 0
    temperature: Annotated[float, Field(description="0, the default, is greedy decoding")] = 0.0
    top_p: float = 1.0
    top_k: Annotated[int, Field(description="0 and -1 keep all")] = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Annotated[
        dict[int, float],
        FirstError(),
        BeforeValidator(_check_biases),
        Field(description="added to logits, by token id"),
    ] = Field(default_factory=dict)
    stop: str | Strings = Field(default_factory=list)
    stop_token_ids: TokenIds = Field(default_factory=list)
    include_stop_str_in_output: bool = False
    ignore_eos: Annotated[bool, Field(description="generate max_tokens, whatever the model ends with")] = False
    skip_special_tokens: bool = True
    allowed_token_ids: TokenIds = Field(default_factory=list)
    bad_words: Strings = Field(default_factory=list)
    prompt_logprobs: Annotated[int | None, Field(description="the same as logprobs, for the prompt")] = None
    logprob_token_ids: Annotated[
        TokenIds, Field(description="with logprobs, these tokens in the place of the most probable ones")
    ] = Field(default_factory=list)
    return_token_ids: Annotated[bool, Field(description="return the ids of the prompt and of the text")] = False
    seed: Annotated[int | None, Field(description="-1 is none")] = None
    n: int = 1
    num_beams: Annotated[int, Field(description="beams of a beam search; 1 is no search")] = 1
    use_beam_search: Annotated[bool, Field(description="search with n beams, or num_beams if these are more")] = False
    length_penalty: Annotated[float, Field(description="of a beam search")] = 1.0
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: Annotated[bool, Field(description="send the text in pieces, as server-sent events")] = False
    stream_options: StreamOptions | None = None
    priority: Annotated[int, Field(description="requests of a lower number are begun first")] = 0
    cache_salt: Annotated[str, Field(description="prompts are cached between requests of the same salt alone")] = ""
    user: Annotated[str | None, Field(description="accepted and ignored")] = None
    safety_identifier: Annotated[str | None, Field(description="accepted and ignored")] = None
    prompt_cache_key: Annotated[str | None, Field(description="accepted and ignored")] = None
    metadata: Annotated[dict[str, Any] | None, FirstError(), Field(description="accepted and ignored")] = None
    store: Annotated[bool | None, Field(description="only false")] = None
    service_tier: Annotated[str | None, Field(description="only auto and default")] = None
    spaces_between_special_tokens: Annotated[bool | None, Field(description="only true")] = None

    @model_validator(mode="before")
    @classmethod
    def refuse_other_names(cls, body: Any) -> Any:
        """Raise an InputError if a field has the name that another server gives it."""
        for name, right in OTHER_NAMES.items() if isinstance(body, dict) else ():
            if body.get(name) is not None:
                raise InputError(f"{name} is called {right} here: send it by that name", name)
        return body

    @property
    def options(self) -> StreamOptions:
        """Options of the stream."""
        return self.stream_options or StreamOptions()

    def field_names(self) -> dict[str, str]:
        """Return this request's names of the engine's fields."""
        return {
            **CLIENT_NAMES,
            "adapter": "model",
            "max_prompt_tokens": "truncate_prompt_tokens",
            "json_schema": self.form_field,
            "grammar": "structured_outputs",
        }

    def engine_request(self, prompts: list[PromptInput], sampling: SamplingParams, most: int) -> GenerationRequest:
        """Return the request for some prompts.

        Raises:
            InputError: It asks for more than `most` texts.
        """
        if not 1 <= len(prompts) * self.n <= most:
            raise InputError(
                f"{len(prompts)} prompts with n {self.n}: ask for 1 to {most} texts in one request",
                "n" if self.n > 1 else "prompts",
            )
        if self.stream_options is not None and not self.stream:
            raise InputError("stream_options goes with stream: set stream to true, or leave it out", "stream_options")
        if self.stream and sampling.prompt_logprobs is not None:
            raise InputError("the prompt's log probabilities are not streamed: leave out stream", "stream")
        cut = self.truncate_prompt_tokens
        if cut == 0:
            raise InputError("truncate_prompt_tokens is 0, which leaves no prompt: give 1 or more", "max_prompt_tokens")
        return GenerationRequest(
            prompts=prompts,
            adapters=[self.model] * len(prompts),
            sampling=sampling,
            truncate=self.truncate or cut == -1,
            max_prompt_tokens=None if cut == -1 else cut,
            priority=self.priority,
            cache_salt=self.cache_salt,
        )

    def sampling_params(self, form: TextForm | None = None, **changes: Any) -> SamplingParams:
        """Return the sampling parameters, with `changes`; `form` takes the place of the one that the request names.

        Raises:
            InputError: A value is out of range, or not supported.
        """
        check_neutral(self, NEUTRAL)
        form = self.text_form() if form is None else form
        given: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "min_new_tokens": self.min_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "json_schema": form.json_schema,
            "grammar": form.grammar,
            "num_beams": self._beams(),
            **changes,
        }
        same = SamplingParams.__dataclass_fields__.keys() & type(self).model_fields.keys() - given.keys()
        return from_client({**{name: getattr(self, name) for name in same}, **given})

    def _beams(self) -> int:
        """Return the number of beams; a search has several, as one of them would only be the greedy text."""
        if not self.use_beam_search:
            return self.num_beams
        if self.n == self.num_beams == 1:
            raise InputError("use_beam_search goes with n or num_beams: set one to 2 or more", "use_beam_search")
        return max(self.n, self.num_beams)

    @property
    def form_field(self) -> str:
        """The field that says which form the text has."""
        return "response_format" if self.structured_outputs is None else "structured_outputs"

    def text_form(self) -> TextForm:
        """Return the form that the request names.

        Raises:
            InputError: There is more than one, or it is none.
        """
        forms = [one.text_form() for one in (self.response_format, self.structured_outputs) if one is not None]
        forms = [form for form in forms if form != FREE]
        if len(forms) > 1:
            raise InputError("response_format and structured_outputs are both given: leave out one", "response_format")
        return forms[0] if forms else FREE
