"""Answers to chats, whole and in pieces."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serve.generated_text import FinishReason, GenerationResult, StreamStart, TextDelta, TokenLogprob
from serve.http.openai.chat_messages import ChatRequest
from serve.http.openai.logprobs import chat_logprobs, prompt_logprobs
from serve.http.openai.protocol import Usage
from serve.http.openai.tool_calls import NO_TOOLS, ContentReader, ToolUse

WHOLE, PIECE = "chat.completion", "chat.completion.chunk"
"""Kinds of objects."""


@dataclass
class StreamedText:
    """One text of a stream."""

    reader: ContentReader
    sent: int = 0
    """Tokens that events have held."""
    tokens: list[int] = field(default_factory=list)
    """Tokens of pieces that are held back…"""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """…and their log probabilities."""


class ChatForm:
    """The messages that answer one request."""

    def __init__(self, body: ChatRequest, tools: ToolUse = NO_TOOLS) -> None:
        self.body, self.tools = body, tools
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.texts = [StreamedText(tools.reader()) for _ in range(body.n)]

    def whole(self, results: Sequence[GenerationResult]) -> dict[str, Any]:
        """Return the response."""
        usage = Usage.of(results, self.body.n).model_dump()
        message = self._message(WHOLE, results[0].adapter, [self._choice(one) for one in results], usage)
        if self.body.prompt_logprobs is not None:
            named = bool(self.body.logprob_token_ids)
            message["prompt_logprobs"] = prompt_logprobs(results[0].prompt_logprobs, named=named)
        if self.body.return_token_ids:
            message["prompt_token_ids"] = list(results[0].prompt_ids)
        return message

    def opening(self, start: StreamStart) -> list[dict[str, Any]]:
        """Return the events that a stream begins with: the role of each message."""
        role = {"role": "assistant", "content": ""}
        ids = {"prompt_token_ids": list(start.prompt_ids[0])} if self.body.return_token_ids else {}
        return [self._event(start, {"index": index, "delta": role, **ids}) for index in range(self.body.n)]

    def delta(self, start: StreamStart, one: TextDelta) -> list[dict[str, Any]]:
        """Return the events of a piece of text; none for one that may begin a tool call."""
        text = self.texts[one.index]
        text.tokens += one.tokens
        text.logprobs += one.logprobs
        content = text.reader.push(one.text)
        if not content:
            return []
        choice = self._piece(one.index, {"content": content}, text.logprobs, text.tokens)
        text.sent += len(text.tokens)
        text.tokens, text.logprobs = [], []
        return [self._event(start, choice)]

    def last(self, start: StreamStart, result: GenerationResult) -> list[dict[str, Any]]:
        """Return the events that end a text, with the tokens that no piece of text has held."""
        text = self.texts[result.index]
        rest, calls = text.reader.end()
        events: list[dict[str, Any]] = []
        if calls:
            numbered = [{"index": place, **call} for place, call in enumerate(calls)]
            events.append(self._piece(result.index, {"tool_calls": numbered}))
        delta = {"content": rest} if rest else {}
        logprobs, tokens = result.logprobs[text.sent :], result.tokens[text.sent :]
        ending = self._piece(result.index, delta, logprobs, tokens)
        ending["finish_reason"] = _finish_reason(result, calls)
        return [self._event(start, choice) for choice in (*events, ending)]

    def usage(self, start: StreamStart, usage: Usage) -> dict[str, Any]:
        """Return the event behind the last text, which has the usage and no choices."""
        return self._message(PIECE, start.adapter, [], usage.model_dump())

    def _message(
        self, kind: str, model: str, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": model}
        return {**head, "choices": choices, "usage": usage}

    def _event(self, start: StreamStart, choice: dict[str, Any]) -> dict[str, Any]:
        return self._message(PIECE, start.adapter, [{"logprobs": None, "finish_reason": None, **choice}])

    def _choice(self, result: GenerationResult) -> dict[str, Any]:
        reader = self.tools.reader()
        content = reader.push(result.text)
        rest, calls = reader.end()
        message: dict[str, Any] = {"role": "assistant", "content": (content + rest) or ("" if not calls else None)}
        message["refusal"] = None
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": result.index,
            "message": message,
            "logprobs": chat_logprobs(result.logprobs) if self.body.logprobs else None,
            "finish_reason": _finish_reason(result, calls),
        }
        return {**choice, "token_ids": list(result.tokens)} if self.body.return_token_ids else choice

    def _piece(
        self, index: int, delta: dict[str, Any], logprobs: Sequence[TokenLogprob] = (), tokens: Sequence[int] = ()
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": chat_logprobs(logprobs) if self.body.logprobs else None,
        }
        return {**choice, "token_ids": list(tokens)} if self.body.return_token_ids else choice


def _finish_reason(result: GenerationResult, calls: Sequence[object]) -> str:
    """Return the reason for which a text ended; a text that is complete with its calls ends for their sake."""
    return "tool_calls" if calls and result.finish_reason is FinishReason.STOP else str(result.finish_reason)
