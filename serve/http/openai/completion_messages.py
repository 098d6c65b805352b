"""Messages of OpenAI's completions API, with vLLM's additions."""

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serve.errors import InputError
from serve.generated_text import GenerationResult, StreamStart, TextDelta
from serve.http.body import FirstError, Strings
from serve.http.openai.logprobs import Entries, completion_logprobs, prompt_logprobs
from serve.http.openai.protocol import Usage, check_neutral
from serve.http.openai.sampling_fields import SamplingFields, TokenIds
from serve.requests import GenerationRequest, PromptInput


class CompletionRequest(SamplingFields):
    """Prompts to complete."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "e2e", "prompt": "name[Alimentum], area[city centre]"}}
    )

    prompt: Annotated[
        str | Strings | TokenIds | Annotated[list[TokenIds], FirstError()],
        Field(description="an input of the adapter's task, or the token ids of a whole prompt; or a list of either"),
    ]
    logprobs: Annotated[
        int | None, Field(description="log probability of each token, and of this many most probable ones")
    ] = None
    echo: Annotated[
        bool, Field(description="return the prompt before the text, and with logprobs those of the prompt too")
    ] = False
    best_of: Annotated[int | None, Field(description="only the same as n")] = None
    suffix: Annotated[str | None, Field(description="only an empty one")] = None
    add_special_tokens: Annotated[bool | None, Field(description="only true")] = None

    @property
    def prompts(self) -> list[PromptInput]:
        """The prompts, each as text or as token ids."""
        given: Any = self.prompt
        return [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)

    def field_names(self) -> dict[str, str]:
        """Return this request's names of the engine's fields."""
        return {**super().field_names(), "prompts": "prompt"}

    def generation_request(self, most: int) -> GenerationRequest:
        """Return the engine's request.

        Raises:
            InputError: A value is out of range or not supported, or the request asks for more than `most` texts.
        """
        check_neutral(self, {"add_special_tokens": (True,)})
        if self.best_of not in (None, self.n):
            raise InputError(f"best_of is {self.best_of}: only the same as n, {self.n}, is supported", "best_of")
        if self.suffix:
            raise InputError("suffix is not supported: models here continue a prompt, leave it out", "suffix")
        scored = self.logprobs if self.echo and self.prompt_logprobs is None else self.prompt_logprobs
        return self.engine_request(self.prompts, self.sampling_params(prompt_logprobs=scored), most)


class Choice(BaseModel):
    """One generated text."""

    index: int
    text: str
    finish_reason: Annotated[str | None, Field(description="stop or length; null until a stream's last event")] = None
    logprobs: dict[str, Any] | None = None
    prompt_logprobs: Annotated[list[Any] | None, Field(description="if asked for")] = None
    prompt_token_ids: Annotated[list[int] | None, Field(description="if asked for")] = None
    token_ids: Annotated[list[int] | None, Field(description="if asked for")] = None


class Completion(BaseModel):
    """The response, or one event of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class CompletionForm:
    """The messages that answer one request."""

    def __init__(self, body: CompletionRequest) -> None:
        self.body = body
        self.shared = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
        self.sent = [0] * len(body.prompts) * body.n
        """Tokens of each text that events of the stream have held."""

    def whole(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """Return the response."""
        usage = Usage.of(results, self.body.n).model_dump()
        return self._message(results[0].adapter, [self._choice(result) for result in results], usage)

    def opening(self, start: StreamStart) -> list[dict[str, Any]]:
        """Return the events that a stream begins with: the prompt of each text, if it is asked for."""
        body, events = self.body, []
        for index in range(len(self.sent) if body.echo or body.return_token_ids else 0):
            place = index // body.n
            choice = self._piece(index, start.prompt_texts[place] if body.echo else "", None, (), ())
            if body.return_token_ids:
                choice["prompt_token_ids"] = list(start.prompt_ids[place])
            events.append(self._message(start.adapter, [choice]))
        return events

    def delta(self, start: StreamStart, one: TextDelta) -> list[dict[str, Any]]:
        """Return the events of a piece of text."""
        self.sent[one.index] += len(one.tokens)
        choice = self._piece(one.index, one.text, None, one.logprobs, one.tokens)
        return [self._message(start.adapter, [choice])]

    def last(self, start: StreamStart, result: GenerationResult) -> list[dict[str, Any]]:
        """Return the events that end a text, with the tokens that no piece of text has held."""
        sent = self.sent[result.index]
        choice = self._piece(result.index, "", str(result.finish_reason), result.logprobs[sent:], result.tokens[sent:])
        return [self._message(start.adapter, [choice])]

    def usage(self, start: StreamStart, usage: Usage) -> dict[str, Any]:
        """Return the event behind the last text, which has the usage and no choices."""
        return self._message(start.adapter, [], usage.model_dump())

    def _message(
        self, model: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {**self.shared, "model": model, "choices": choices, "usage": usage}

    def _choice(self, result: GenerationResult) -> dict[str, Any]:
        body, before = self.body, result.prompt_text if self.body.echo else ""
        logprobs = None
        if body.logprobs is not None:
            # Clients that score a prompt leave out the one token behind it, which so has to be there if it is the end.
            end = [result.end_logprob] if body.echo and result.end_logprob else []
            own = completion_logprobs([*result.logprobs, *end], shift=len(before))
            logprobs = _joined(_of_prompt(result), own) if body.echo else own
        choice: dict[str, Any] = {
            "index": result.index,
            "text": before + result.text,
            "finish_reason": str(result.finish_reason),
            "logprobs": logprobs,
        }
        if body.prompt_logprobs is not None:
            named = bool(body.logprob_token_ids)
            choice["prompt_logprobs"] = prompt_logprobs(result.prompt_logprobs, named=named)
        if body.return_token_ids:
            choice |= {"prompt_token_ids": list(result.prompt_ids), "token_ids": list(result.tokens)}
        return choice

    def _piece(
        self, index: int, text: str, finish_reason: str | None, logprobs: Entries, tokens: Sequence[int]
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": index,
            "text": text,
            "finish_reason": finish_reason,
            "logprobs": None if self.body.logprobs is None else completion_logprobs(logprobs),
        }
        return {**choice, "token_ids": list(tokens)} if self.body.return_token_ids else choice


def _of_prompt(result: GenerationResult) -> dict[str, Any]:
    """Return the log probabilities of a prompt, whose first token has a text but no log probability."""
    known = [one for one in result.prompt_logprobs if one is not None]
    length = min((one.offset for one in known), default=len(result.prompt_text))
    return completion_logprobs(result.prompt_logprobs, first_text=result.prompt_text[:length])


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {name: [*first[name], *second[name]] for name in first}
