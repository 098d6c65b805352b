import asyncio
import json

import pytest
from fastapi import Request

from serve.errors import InputError
from serve.http.sse import event, unless_disconnected


def request(*messages: str) -> Request:
    """Return a request whose client sends these types of messages, and then neither sends nor leaves."""
    coming = iter(messages)

    async def receive() -> dict[str, str]:
        kind = next(coming, None)
        return {"type": kind} if kind else await asyncio.Future()

    return Request({"type": "http"}, receive)


class Work:
    """Work that never ends, and knows when it began and was cancelled."""

    def __init__(self) -> None:
        self.began, self.cancelled = asyncio.Event(), False

    async def run(self) -> str:
        self.began.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "never"


def test_an_event_is_one_line_of_json_and_an_empty_one() -> None:
    assert event({"text": "café\n\n"}) == 'data: {"text": "café\\n\\n"}\n\n'


@pytest.mark.parametrize("text", ["\x85", "\u2028b\u2029", "\x0b\x0c\x1c\x1d\x1e", "\r"])
def test_no_character_of_a_text_is_a_line_end_to_any_client(text: str) -> None:
    assert event({"text": f"a{text}"}).splitlines() == [event({"text": f"a{text}"}).removesuffix("\n\n"), ""]


@pytest.mark.parametrize("text", ["\r\ndata: [DONE]", "\u2028", '"', "\x00"])
def test_an_event_gives_back_what_was_put_in(text: str) -> None:
    line, *rest = event({"text": text}).split("\n")
    assert rest == ["", ""]
    assert json.loads(line.removeprefix("data: ")) == {"text": text}


def test_the_result_of_the_work_is_returned_while_the_client_stays() -> None:
    async def answer() -> str:
        return "answer"

    async def ask() -> str | None:
        return await unless_disconnected(request("http.request"), answer())

    assert asyncio.run(ask()) == "answer"


def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> str:
        raise InputError("the text is empty")

    async def ask() -> str | None:
        return await unless_disconnected(request(), fail())

    with pytest.raises(InputError, match="the text is empty"):
        asyncio.run(ask())


def test_a_client_that_leaves_cancels_the_work() -> None:
    async def leave() -> tuple[str | None, bool]:
        work = Work()
        return await unless_disconnected(request("http.request", "http.disconnect"), work.run()), work.cancelled

    assert asyncio.run(leave()) == (None, True)


def test_a_request_that_is_cancelled_cancels_the_work() -> None:
    async def cancel() -> tuple[bool, bool]:
        work = Work()
        asking = asyncio.create_task(unless_disconnected(request(), work.run()))
        await work.began.wait()
        asking.cancel()
        await asyncio.wait({asking})
        return asking.cancelled(), work.cancelled

    assert asyncio.run(cancel()) == (True, True)
