"""Parts that OpenAI's messages have in common: errors, usage, options of a stream, fields at their defaults."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from serve.errors import InputError
from serve.generated_text import GenerationResult
from serve.http.body import Body
from serve.http.protocol import ErrorKind


class StreamOptions(Body):
    """Options of a stream."""

    include_usage: Annotated[bool, Field(description="end with an event that has the usage and no choices")] = False
    continuous_usage_stats: Annotated[bool, Field(description="every event has the usage so far")] = False
    include_obfuscation: Annotated[bool, Field(description="accepted and ignored")] = False


class Usage(BaseModel):
    """Tokens of the prompts and of the generated texts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, results: Sequence[GenerationResult], n: int) -> "Usage":
        """Return the usage of results, `n` for each prompt; a prompt counts once."""
        prompt = sum(result.prompt_tokens for result in results[::n])
        return cls.counted(prompt, sum(len(result.tokens) for result in results))

    @classmethod
    def counted(cls, prompt: int, generated: int) -> "Usage":
        """Return the usage of so many tokens."""
        return cls(prompt_tokens=prompt, completion_tokens=generated, total_tokens=prompt + generated)


def error_body(message: str, kind: ErrorKind, param: str | None) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    return {"error": {"message": message, "type": kind.openai_type, "param": param, "code": kind.openai_code}}


def check_neutral(body: BaseModel, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise an InputError if a field has another value than those that change nothing."""
    for name, values in neutral.items():
        value = getattr(body, name)
        if value is not None and value not in values:
            known = " or ".join(repr(one) for one in values) or "nothing"
            raise InputError(f"{name} is {value!r}, which is not supported: give {known}, or leave it out", name)
