"""The bodies of OpenAI's completions API, with vLLM's additions."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serve.adapters.base_adapter import BASE
from serve.errors import InputError
from serve.generation.sampling.params import Sampling, check_biases
from serve.http.body import Body, FirstFault, Strings


class ResponseFormat(BaseModel):
    """JSON of a schema instead of free text."""

    type: Annotated[str, Field(pattern="^json_schema$", description="json_schema is the one there is")]
    json_schema: Annotated[dict[str, Any], Field(description='{"schema": …}')]


def _checked_biases(given: Any) -> Any:
    """Refuse more tokens than may be named before they are made numbers, which can be chosen to be slow as keys."""
    if isinstance(given, dict):
        check_biases(given)
    return given


class CompletionRequest(Body):
    """Inputs to write texts for."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "e2e", "prompt": "name[Alimentum], area[city centre]"}}
    )

    prompt: Annotated[str | Strings, Field(description="an input as the adapter's task has it, or several")]
    model: Annotated[
        str | None, Field(description=f"the adapter, or `{BASE}` for the base itself; optional if there is one only")
    ] = None
    truncate: Annotated[bool, Field(description="cut prompts that are too long instead of refusing them")] = False
    max_tokens: Annotated[int | None, Field(description="64 by default, or what the context leaves")] = None
    temperature: Annotated[float, Field(description="0, the default, takes the likeliest token")] = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    logit_bias: Annotated[
        dict[int, float], FirstFault(), BeforeValidator(_checked_biases), Field(description="by token id")
    ] = Field(default_factory=dict)
    stop: str | Strings = Field(default_factory=list)
    logprobs: Annotated[int | None, Field(description="of each token, and of so many of the likeliest")] = None
    seed: int | None = None
    n: int = 1
    beams: Annotated[int, Field(description="more than 1 searches for the likeliest text")] = 1
    length_penalty: Annotated[float, Field(description="of a search with beams")] = 1.0
    response_format: ResponseFormat | None = None
    stream: Annotated[bool, Field(description="send the text piece by piece, as server-sent events")] = False
    stream_options: Annotated[dict[str, bool], FirstFault()] | None = None
    user: Annotated[str | None, Field(description="not used")] = None

    @model_validator(mode="before")
    @classmethod
    def leave_out_nulls(cls, body: Any) -> Any:
        """Take null for what was not given, as OpenAI's clients send it."""
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body

    def sampling(self) -> Sampling:
        """Return what is asked for; an error if it cannot be."""
        form = self.response_format
        if form is not None and not isinstance(form.json_schema.get("schema"), dict):
            raise InputError('response_format.json_schema has no schema: {"schema": {…}}')
        if self.stream and self.logprobs is not None:
            raise InputError("logprobs do not come with a stream: ask for them without")
        renamed: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "json_schema": None if form is None else form.json_schema["schema"],
        }
        same = Sampling.__dataclass_fields__.keys() & type(self).model_fields.keys() - renamed.keys()
        return Sampling(**{name: getattr(self, name) for name in same}, **renamed)


class Choice(BaseModel):
    """One text."""

    index: int
    text: str
    finish_reason: Annotated[str | None, Field(description="stop or length; null while a stream goes on")]
    logprobs: dict[str, Any] | None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answer, or an event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": CompletionRequest.model_json_schema()}},
    }
}
