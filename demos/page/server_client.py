"""A thin client of the server's HTTP API, whose errors are plain sentences."""

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx

STREAM_END = "[DONE]"
KEY_HEADER = "X-API-Key"
ADVICE: dict[int, str] = {
    401: "The server wants an API key, and this key is none of its keys: check the file of --api-key-file, or what was "
    "typed.",
    403: "The server does not allow this to the key that was given, or was started without --adapter-dir.",
    404: "The server does not have that adapter: it may have been unloaded meanwhile.",
    408: "The request did not arrive in time.",
    413: "The request is too large for the server.",
    422: "The server does not accept this request.",
    429: "The server is busy, or the key has used up its minute.",
    500: "The server failed; its log says why.",
    503: "The server is stopping, or its device is lost.",
    504: "The request waited too long in the server's queue.",
}
"""Meaning of the server's errors to a reader, by status."""
NO_KEY = "The server wants an API key: give --api-key-file."
"""Stands for 401 where the request had no key."""


class PageError(Exception):
    """A request failed; the message is made of plain sentences.

    `status` is that of the server's response, None where there was none; `retry_after` is in seconds.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class ServerClient:
    """The server at an address."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Name a server; nothing is sent yet.

        Args:
            address: URL of the server, with or without a path below which it is.
            api_key: Key of every request; None sends none.
            timeout: Seconds in which a response has to begin.
            transport: Takes the place of the network.
        """
        self.address, self.api_key = address.rstrip("/"), api_key
        self.timeout, self.transport = timeout, transport

    async def get(self, path: str) -> Any:
        """Return the JSON of a response.

        Raises:
            PageError: The server does not answer, or answers with an error.
        """
        return self._json(await self._request("GET", path))

    async def text(self, path: str) -> str:
        """Return the text of a response; see `get`."""
        return (await self._request("GET", path)).text

    async def post(self, path: str, body: dict[str, Any], *, api_key: str | None = None) -> Any:
        """Return the JSON of the response to a body; a key goes before the client's own. See `get`."""
        return self._json(await self._request("POST", path, body, api_key=api_key))

    async def post_with_headers(self, path: str, body: dict[str, Any]) -> tuple[Any, Mapping[str, str]]:
        """Return the JSON of the response to a body, and the response's headers. See `get`."""
        response = await self._request("POST", path, body)
        return self._json(response), response.headers

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of a streamed response; closing the iterator cancels the request.

        Raises:
            PageError: The server does not answer, answers with an error, or breaks off.
        """
        with self._plain_errors():
            async with self._client() as client, client.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise error_of(response)
                async for line in response.aiter_lines():
                    content = line.removeprefix("data: ")
                    if content == STREAM_END:
                        return
                    if line.startswith("data: "):
                        yield _event(content)

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, api_key: str | None = None
    ) -> httpx.Response:
        with self._plain_errors():
            async with self._client(api_key) as client:
                response = await client.request(method, path, json=body)
        if response.is_error:
            raise error_of(response)
        return response

    def _json(self, response: httpx.Response) -> Any:
        with self._plain_errors():
            return response.json()

    def _client(self, api_key: str | None = None) -> httpx.AsyncClient:
        key = api_key or self.api_key
        return httpx.AsyncClient(
            base_url=self.address,
            timeout=self.timeout,
            headers={KEY_HEADER: key} if key else {},
            transport=self.transport,
            verify=_ssl_context(),
        )

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Raise errors of the network, and of what is no answer of this server, as PageErrors."""
        try:
            yield
        except httpx.TransportError as error:
            raise PageError(FAILURES[_nearest(error)](self.address, self.timeout)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise PageError(f"{self.address!r} is no address of a server: {error}.") from error
        except json.JSONDecodeError as error:
            raise PageError(f"What answers at {self.address} is not adamix-serve.") from error


FAILURES: dict[type[Exception], Callable[[str, float], str]] = {
    httpx.ConnectError: lambda address, _: (
        f"The server at {address} does not answer. Start adamix-serve there, then try again."
    ),
    httpx.TimeoutException: lambda address, seconds: (
        f"The server at {address} did not answer within {seconds:g} s. It may be overloaded: try again later."
    ),
    httpx.UnsupportedProtocol: lambda address, _: (
        f"{address!r} is no address of a server: give one that begins with http:// or https://."
    ),
    httpx.TransportError: lambda address, _: (
        f"The connection to the server at {address} broke off. It may have been stopped: try again."
    ),
}
"""Sentences for failures of the network, by the error's class or its nearest base class."""


def error_of(response: httpx.Response) -> PageError:
    """Return the error of a response that is one, in the form of any of the server's protocols."""
    status, said = response.status_code, _message(response)
    advice = ADVICE.get(status, f"The server answered with status {status}.")
    if status == HTTPStatus.UNAUTHORIZED and KEY_HEADER not in response.request.headers:
        advice = NO_KEY
    retry_after = _seconds(response.headers.get("retry-after"))
    wait = f" Try again in {retry_after:g} s." if retry_after is not None and status in (429, 503) else ""
    return PageError(f"{advice}{wait}{f' It says: {said}' if said else ''}", status=status, retry_after=retry_after)


def _event(content: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(content)
    if "error" in event:
        raise PageError(f"The server broke off: {event['error'].get('message', 'it does not say why')}")
    return event


def _message(response: httpx.Response) -> str:
    """Return what a response says; nothing if it is not in a form of this server."""
    try:
        found = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(found.get("message", "") if isinstance(found, dict) else found)


def _seconds(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _nearest(error: Exception) -> type[Exception]:
    return next(base for base in type(error).__mro__ if base in FAILURES)


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return one context for all clients: the certificates take a while to read."""
    return httpx.create_ssl_context()
