import asyncio
from typing import Any

import pytest

from serve.cluster.asgi import answer, answer_lifespan, behind_ray, plain_scope

SCOPE = {"type": "http", "path": "/predict", "root_path": "", "method": "POST", "headers": []}


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    await send(start())
    await send(part(message["body"], more=False))


async def collect(application: Any, body: bytes = b"") -> list[list[Any]]:
    return [list(messages) async for messages in answer(application, SCOPE, body)]


def test_a_response_that_is_there_comes_at_once() -> None:
    assert asyncio.run(collect(echo, b"abc")) == [[start(), part(b"abc", more=False)]]


def test_a_stream_comes_as_it_is_made() -> None:
    async def main() -> None:
        turn = asyncio.Event()

        async def streaming(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await send(part(b"a"))
            await turn.wait()
            await send(part(b"", more=False))

        found = answer(streaming, SCOPE, b"")
        assert await anext(found) == [start(), part(b"a")]
        turn.set()
        assert await anext(found) == [part(b"", more=False)]
        with pytest.raises(StopAsyncIteration):
            await anext(found)

    asyncio.run(main())


def test_ending_early_cancels_the_request_and_tells_it_that_the_client_has_gone() -> None:
    async def main() -> None:
        heard: list[str] = []

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(start())
            await send(part(b"a"))
            try:
                heard.append((await receive())["type"])
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        found = answer(endless, SCOPE, b"")
        await anext(found)
        await asyncio.sleep(0)
        await found.aclose()
        assert heard[-1] == "cancelled"

    asyncio.run(main())


def test_an_error_of_the_application_is_raised() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(collect(broken))


def test_paths_are_read_without_the_prefix_and_ids_are_left_to_the_proxy() -> None:
    paths: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send(start((b"x-request-id", b"1"), (b"x-adapter", b"tone")))

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        for path, prefix in (("/nlp/predict", "/nlp"), ("/nlp", "/nlp"), ("/predict", "/nlp"), ("/predict", "")):
            await behind_ray(application)({**SCOPE, "path": path, "root_path": prefix}, None, send)  # type: ignore[arg-type]
        return sent

    sent = asyncio.run(main())
    assert paths == ["/predict", "/", "/predict", "/predict"]
    assert all(message["headers"] == [(b"x-adapter", b"tone")] for message in sent)


def test_a_scope_is_sent_without_what_its_process_alone_has() -> None:
    assert plain_scope({**SCOPE, "state": object(), "app": object()}) == SCOPE


def test_a_lifespan_with_nothing_to_do_is_completed() -> None:
    async def main() -> list[str]:
        sent: list[str] = []

        async def receive() -> Any:
            return {}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await answer_lifespan(receive, send)
        return sent

    assert asyncio.run(main()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
