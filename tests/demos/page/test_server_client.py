"""The client, against a server of its transport and against none."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from demos.page.server_client import PageError, ServerClient
from demos.server import free_port

ADDRESS = "http://server:8080"


def answering(handler: Callable[[httpx.Request], httpx.Response], **options: str) -> ServerClient:
    return ServerClient(ADDRESS, transport=httpx.MockTransport(handler), **options)


def refused(client: ServerClient, path: str = "/info") -> str:
    with pytest.raises(PageError) as error:
        asyncio.run(client.get(path))
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (401, {"error": {"message": "no key"}}, {}, "wants an API key: give --api-key-file. It says: no key"),
        (404, {"error": "there is no 'x'"}, {}, "may have been unloaded meanwhile. It says: there is no 'x'"),
        (429, {"error": "full"}, {"retry-after": "7"}, "is busy, or the key has used up its minute. Try again in 7 s."),
        (503, {"error": "draining"}, {}, "The server is stopping, or its device is lost. It says: draining"),
        (418, {}, {}, "The server answered with status 418."),
    ],
)
def test_an_error_is_a_sentence_and_what_the_server_says(
    status: int, body: object, headers: dict[str, str], message: str
) -> None:
    client = answering(lambda _: httpx.Response(status, json=body, headers=headers))
    assert message in refused(client)


def test_a_key_that_was_given_and_is_wrong_is_told_apart_from_none() -> None:
    client = answering(lambda _: httpx.Response(401, json={}), api_key="wrong")
    assert refused(client).startswith(
        "The server wants an API key, and this key is none of its keys: check the file of "
    )


def test_a_server_that_is_down_is_a_sentence_that_says_what_to_do() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    assert refused(ServerClient(address)) == (
        f"The server at {address} does not answer. Start adamix-serve there, then try again."
    )


def test_an_address_without_a_protocol_and_another_program_are_told() -> None:
    assert refused(ServerClient("localhost:8080")).startswith("'localhost:8080' is no address of a server")
    other = answering(lambda _: httpx.Response(200, text="<html>"))
    assert refused(other) == f"What answers at {ADDRESS} is not adamix-serve."


def test_the_key_goes_with_every_request_and_another_before_it() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("x-api-key"))
        return httpx.Response(200, json={})

    client = answering(handler, api_key="mine")
    asyncio.run(client.get("/info"))
    asyncio.run(client.post("/v1/load_lora_adapter", {}, api_key="admin"))
    asyncio.run(answering(handler).get("/info"))
    assert seen == ["mine", "admin", None]


def test_a_stream_ends_at_its_end_and_an_error_in_it_is_raised() -> None:
    events = [{"choices": [{"text": "a"}]}, {"error": {"message": "the adapter produced no numbers"}}]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)

    async def read(content: str) -> list[dict[str, object]]:
        client = answering(lambda _: httpx.Response(200, text=content))
        return [event async for event in client.stream("/v1/completions", {})]

    assert asyncio.run(read(f"data: {json.dumps(events[0])}\n\ndata: [DONE]\n\ndata: x\n\n")) == events[:1]
    with pytest.raises(PageError, match="broke off: the adapter produced no numbers"):
        asyncio.run(read(lines))
