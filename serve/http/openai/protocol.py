"""Messages of OpenAI's completions API, with vLLM's additions and the fields of `SamplingParams`."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serve.engine import GenerationResult
from serve.errors import InputError
from serve.http.body import Body, FirstError, Strings
from serve.http.protocol import ErrorKind
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams, check_bias_count


class ResponseFormat(BaseModel):
    """The form of the text: JSON under a schema."""

    type: Annotated[str, Field(pattern="^json_schema$", description="only json_schema is supported")]
    json_schema: Annotated[dict[str, Any], Field(description='{"schema": …}')]


def _check_biases(given: Any) -> Any:
    """Refuse too many biases before their keys become numbers, which a client can choose to be slow to hash."""
    if isinstance(given, dict):
        check_bias_count(given)
    return given


class CompletionRequest(Body):
    """Prompts to complete."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "e2e", "prompt": "name[Alimentum], area[city centre]"}}
    )

    prompt: Annotated[str | Strings, Field(description="an input of the adapter's task, or a list of inputs")]
    model: Annotated[
        str | None,
        Field(description="name of the adapter, or `base` for the base model; optional if there is only one"),
    ] = None
    truncate: Annotated[bool, Field(description="cut prompts that are too long instead of refusing them")] = False
    max_tokens: Annotated[int | None, Field(description="64 by default, or what the context leaves")] = None
    temperature: Annotated[float, Field(description="0, the default, is greedy decoding")] = 0.0
    top_p: float = 1.0
    top_k: int = 0
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
    logprobs: Annotated[
        int | None, Field(description="log probability of each token, and of this many most probable ones")
    ] = None
    seed: int | None = None
    n: int = 1
    num_beams: Annotated[int, Field(description="beams of a beam search; 1 is no search")] = 1
    length_penalty: Annotated[float, Field(description="of a beam search")] = 1.0
    response_format: ResponseFormat | None = None
    stream: Annotated[bool, Field(description="send the text in pieces, as server-sent events")] = False
    stream_options: Annotated[dict[str, bool], FirstError()] | None = None
    user: Annotated[str | None, Field(description="accepted and ignored")] = None

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, body: Any) -> Any:
        """Treat null as absent, since OpenAI's clients send it for fields that are not set."""
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body

    @property
    def include_usage(self) -> bool:
        """The last event of a stream carries the usage."""
        return bool((self.stream_options or {}).get("include_usage"))

    def generation_request(self, max_results: int) -> GenerationRequest:
        """Return the engine's request.

        Raises:
            InputError: A value is out of range, or the request asks for more than `max_results` texts.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not 1 <= len(prompts) * self.n <= max_results:
            raise InputError(f"{len(prompts)} prompts with n {self.n}: ask for 1 to {max_results} texts in one request")
        sampling = self._sampling_params()
        if self.stream and len(prompts) > 1:
            raise InputError(f"{len(prompts)} prompts: a stream has one text")
        return GenerationRequest(
            prompts=prompts, adapters=[self.model] * len(prompts), sampling=sampling, truncate=self.truncate
        )

    def _sampling_params(self) -> SamplingParams:
        form = self.response_format
        if form is not None and not isinstance(form.json_schema.get("schema"), dict):
            raise InputError('response_format.json_schema has no schema: {"schema": {…}}')
        if self.stream and self.logprobs is not None:
            raise InputError("logprobs are not supported in streams: ask for them without stream")
        renamed: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "json_schema": None if form is None else form.json_schema["schema"],
        }
        same = SamplingParams.__dataclass_fields__.keys() & type(self).model_fields.keys() - renamed.keys()
        return SamplingParams(**{name: getattr(self, name) for name in same}, **renamed)


class Choice(BaseModel):
    """One generated text."""

    index: int
    text: str
    finish_reason: Annotated[str | None, Field(description="stop or length; null until a stream's last event")]
    logprobs: dict[str, Any] | None = None

    @classmethod
    def of(cls, index: int, result: GenerationResult) -> "Choice":
        """Return the choice of a result."""
        logprobs = _logprobs(result) if result.logprobs else None
        return cls(index=index, text=result.text, finish_reason=result.finish_reason, logprobs=logprobs)


class Usage(BaseModel):
    """Tokens of the prompts and of the generated texts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, results: Sequence[GenerationResult], n: int) -> "Usage":
        """Return the usage of results, `n` for each prompt; a prompt counts once."""
        prompt = sum(result.prompt_tokens for result in results[::n])
        generated = sum(len(result.tokens) for result in results)
        return cls(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


class Completion(BaseModel):
    """The response, or one event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


def error_body(message: str, kind: ErrorKind, param: str | None) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind.openai_type, "param": param, "code": kind.openai_code}}


def _logprobs(result: GenerationResult) -> dict[str, Any]:
    """Return the four lists of OpenAI's completions API, one entry a token of the text."""
    return {
        "tokens": [token.text for token in result.logprobs],
        "token_logprobs": [token.logprob for token in result.logprobs],
        "top_logprobs": [dict(token.top) for token in result.logprobs],
        "text_offset": [token.offset for token in result.logprobs],
    }
