"""Texts from several models at the same time, each as it is generated."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from demos.page import markup
from demos.page.server_client import PageError, ServerClient

PAUSE = 0.05
"""Seconds between two looks at the texts, so that a page is not drawn for each token."""
PATIENCE = 0.5
"""Seconds without a token after which the texts are shown as they are, so that who has left is noticed."""
REASONS: dict[str, str] = {
    "stop": "ended by itself",
    "length": "reached the most tokens",
    "cancelled": "stopped",
    "failed": "failed",
}
"""Finish reasons for readers."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How texts are generated."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    json_schema: str | None = None
    """JSON schema that the texts follow, as JSON; None leaves them free."""

    def body(self) -> dict[str, Any]:
        """Return the fields of a request.

        Raises:
            PageError: The schema is no JSON object.
        """
        body: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.json_schema is not None:
            schema = _schema(self.json_schema)
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return body


@dataclass(kw_only=True)
class Draft:
    """One model's text so far."""

    model: str
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None
    started: float = field(default_factory=time.perf_counter)
    first: float | None = None
    """Times of the request and of the first token."""
    last: float | None = None

    @property
    def is_done(self) -> bool:
        """True once nothing more comes."""
        return self.error is not None or self.finish_reason is not None

    @property
    def speed(self) -> float | None:
        """Tokens a second after the first; None before there are two."""
        if self.first is None or self.last is None or self.tokens < 2 or self.last <= self.first:
            return None
        return (self.tokens - 1) / (self.last - self.first)

    def describe(self) -> str:
        """Return what happened so far as one line."""
        if self.first is None:
            return "nothing was generated" if self.is_done else "waiting …"
        parts = [markup.count(self.tokens, "token"), f"first after {1000 * (self.first - self.started):.0f} ms"]
        if self.speed is not None:
            parts.append(f"{self.speed:.0f} tokens/s")
        if self.finish_reason is not None:
            parts.append(REASONS.get(self.finish_reason, self.finish_reason))
        return ", ".join(parts)


async def generate_side_by_side(
    client: ServerClient, prompt: str, models: Sequence[str], settings: Settings
) -> AsyncGenerator[list[Draft], None]:
    """Yield the drafts of all models whenever there is more of one; closing the iterator cancels the requests.

    Errors of a model are in its draft.

    Raises:
        PageError: The settings cannot be sent.
    """
    body = {**settings.body(), "prompt": prompt, "stream": True, "stream_options": {"continuous_usage_stats": True}}
    drafts, news = [Draft(model=model) for model in models], asyncio.Event()
    tasks = [asyncio.create_task(_follow(client, draft, body, news)) for draft in drafts]
    try:
        while not all(task.done() for task in tasks):
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), PATIENCE)
            news.clear()
            yield drafts
            await asyncio.sleep(PAUSE)
        yield drafts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: ServerClient, draft: Draft, body: dict[str, Any], news: asyncio.Event) -> None:
    """Add what the server streams to a draft."""
    try:
        async with aclosing(client.stream("/v1/completions", {**body, "model": draft.model})) as events:
            async for event in events:
                _add(draft, event)
                news.set()
        if draft.finish_reason is None:
            draft.error = "The server ended the text without saying why."
    except PageError as error:
        draft.error = str(error)
    finally:
        news.set()


def _add(draft: Draft, event: dict[str, Any]) -> None:
    usage, choices = event.get("usage"), event["choices"]
    if usage is not None and usage["completion_tokens"] > draft.tokens:
        draft.tokens, draft.last = usage["completion_tokens"], time.perf_counter()
        draft.first = draft.last if draft.first is None else draft.first
    for choice in choices:
        draft.text += choice["text"]
        draft.finish_reason = choice["finish_reason"] or draft.finish_reason


def _schema(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise PageError(f"The JSON schema is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise PageError("The JSON schema has to be an object, such as {}.")
    return found
