"""Messages of text-generation-inference."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serve.errors import InputError
from serve.generated_text import FinishReason, GenerationResult, TextDelta, TokenLogprob
from serve.http.body import Body, Strings
from serve.http.openai.protocol import check_neutral
from serve.http.openai.structured_output import TextForm, json_form, regex_form
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "decoder_input_details": (False,),
    "typical_p": (1.0,),
    "watermark": (False,),
}
"""Values that change nothing, by field; others are refused."""
NO_TOKEN: dict[str, Any] = {"id": 0, "text": "", "logprob": 0.0, "special": False}
"""Token of an event whose text belongs to tokens that earlier events had."""


class Grammar(Body):
    """A form that the text follows."""

    type: Literal["json", "json_schema", "regex"]
    value: str | dict[str, Any]

    def text_form(self) -> TextForm:
        """Return the form.

        Raises:
            InputError: The value does not go with the type.
        """
        given = self.value
        if self.type == "json_schema" and isinstance(given, dict):
            given = given.get("schema", given)
        if self.type != "regex":
            return json_form(given, "grammar.value")
        if not isinstance(given, str):
            raise InputError("grammar.value of a regex is a text", "grammar")
        return regex_form(given)


class GenerationParameters(Body):
    """Options of a generation. The most probable token is chosen unless one of those of sampling is given."""

    adapter_id: Annotated[str | None, Field(description="the adapter, where the address names none")] = None
    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: Strings | None = None
    return_full_text: Annotated[bool | None, Field(description="put the prompt before the text")] = None
    details: Annotated[bool | None, Field(description="return the tokens and the reason of the end")] = None
    top_n_tokens: Annotated[int | None, Field(description="with details, the most probable tokens at each place")] = (
        None
    )
    truncate: Annotated[int | None, Field(description="cut the prompt to so many tokens")] = None
    grammar: Grammar | None = None
    best_of: int | None = None
    decoder_input_details: bool | None = None
    typical_p: float | None = None
    watermark: bool | None = None

    def sampling_params(self) -> SamplingParams:
        """Return the sampling parameters.

        Raises:
            InputError: A value is out of range or not supported.
        """
        check_neutral(self, NEUTRAL)
        drawn = self.do_sample or any(value is not None for value in (self.temperature, self.top_k, self.top_p))
        form = self.grammar.text_form() if self.grammar else None
        given: dict[str, Any] = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": (1.0 if self.temperature is None else self.temperature) if drawn else 0.0,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "stop": self.stop,
            "json_schema": form and form.json_schema,
            "grammar": form and form.grammar,
            "include_stop_str_in_output": bool(self.stop),
            "logprobs": self.top_n_tokens or 0,
        }
        return SamplingParams(**{name: value for name, value in given.items() if value is not None})


class TextGenerationInput(Body):
    """A prompt to continue."""

    inputs: Annotated[str, Field(description="an input of the adapter's task")]
    parameters: GenerationParameters | None = None
    stream: Annotated[bool, Field(description="send the text in pieces, as server-sent events")] = False

    @property
    def options(self) -> GenerationParameters:
        """Options of the generation."""
        return self.parameters or GenerationParameters()

    def generation_request(self, name: str | None) -> GenerationRequest:
        """Return the engine's request.

        Raises:
            InputError: A value is out of range or not supported.
        """
        return GenerationRequest(
            prompts=[self.inputs],
            adapters=[name or self.options.adapter_id],
            sampling=self.options.sampling_params(),
            max_prompt_tokens=self.options.truncate,
        )


def whole(result: GenerationResult, options: GenerationParameters) -> dict[str, Any]:
    """Return the response."""
    message: dict[str, Any] = {"generated_text": _text(result, options)}
    if options.details:
        message["details"] = {
            **_end(result, options),
            "prefill": [],
            "tokens": [_token(one) for one in result.logprobs],
            **({"top_tokens": [_top(one) for one in result.logprobs]} if options.top_n_tokens else {}),
        }
    return message


def delta(piece: TextDelta) -> list[dict[str, Any]]:
    """Return the events of a piece of text, one a token; the last has the text."""
    known = [_token(one) for one in piece.logprobs] or [NO_TOKEN]
    tokens = [*({**token, "text": ""} for token in known[:-1]), {**known[-1], "text": piece.text}]
    return [{"token": token, "generated_text": None, "details": None} for token in tokens]


def last(result: GenerationResult, options: GenerationParameters) -> dict[str, Any]:
    """Return the event that ends a stream, with the whole text; its token is the one that ended it, without a text."""
    ends = [one for one in (*result.logprobs[-1:], result.end_logprob) if one is not None]
    token = _token(ends[-1]) if ends else NO_TOKEN
    end = {"token": {**token, "text": "", "special": True}, "generated_text": _text(result, options)}
    return {**end, "details": _end(result, options)}


def _text(result: GenerationResult, options: GenerationParameters) -> str:
    return result.prompt_text + result.text if options.return_full_text else result.text


def _end(result: GenerationResult, options: GenerationParameters) -> dict[str, Any]:
    stopped = any(result.text.endswith(text) for text in options.stop or ())
    reason = "stop_sequence" if stopped else "eos_token"
    return {
        "finish_reason": reason if result.finish_reason == FinishReason.STOP else "length",
        "generated_tokens": len(result.tokens),
        "seed": options.seed,
    }


def _token(one: TokenLogprob) -> dict[str, Any]:
    return {"id": one.token, "text": one.text, "logprob": one.logprob, "special": False}


def _top(one: TokenLogprob) -> list[dict[str, Any]]:
    return [{"id": top.token, "text": top.text, "logprob": top.logprob, "special": False} for top in one.top]
