"""HTTP/1.1 without upgrades, and with limits: a request that offers an upgrade is answered as it is, body and all."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from serve.connection_limits import RESERVED, ConnectionLimits
from serve.http.api_key_middleware import OPEN
from serve.http.error_responses import HEADERS_TOO_LARGE, OUT_OF_CONNECTIONS, REQUEST_TIMEOUT
from serve.http.pipelined_protocol import PipelinedProtocol
from serve.http.protocol import ErrorKind

HEADER = re.compile(rb"(?<=\r\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
IGNORED = b"Ignored"
"""Name of as many characters, which means nothing."""
HEAD_END = b"\r\n\r\n"
READ_BYTES = 262_144
"""Most bytes that come at once; those behind a request may belong to the next one."""
WARN_SECONDS = 60.0
"""Shortest time between two warnings of too many connections."""
FULL = "the server has all the connections that it takes: try again later"
Respond = Callable[[str, str, ErrorKind], Response]
"""Returns the response of an error to the request of a path."""
logger = logging.getLogger(__name__)


class HeadTooLarge(Exception):
    """The head of a request is over a limit."""


class Connections:
    """The limits and the state that all connections of a server share."""

    def __init__(self, respond: Respond, limits: ConnectionLimits | None = None) -> None:
        self.respond, self.limits = respond, limits or ConnectionLimits()
        self.idle: dict[BoundedProtocol, None] = {}
        """Connections without a request, the one that has been so for longest first."""
        self.warned = -WARN_SECONDS

    def __call__(self, **options: Any) -> "BoundedProtocol":
        """Return the protocol of a connection, as uvicorn asks for it."""
        return BoundedProtocol(self, **options)

    def warn(self) -> None:
        """Log that there are too many connections, at times."""
        if (now := time.monotonic()) - self.warned >= WARN_SECONDS:
            self.warned = now
            logger.warning("all %d connections are in use: see --max-connections", self.limits.max_connections)


class BoundedProtocol(PipelinedProtocol):
    """The protocol of uvicorn, to which offers to upgrade (RFC 9110, 7.8) are no header, with limits.

    Its parser takes what comes behind the head of a request with such an offer for another protocol's and leaves out
    the body. Java's HttpClient and `curl --http2` offer HTTP/2 with every first request.
    """

    def __init__(self, shared: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.shared, self.limits = shared, shared.limits
        self.in_head = self.is_too_large = False
        self.head_bytes = self.received_bytes = 0
        """Bytes of the head after those that came with its beginning, and bytes that have just come."""
        self.trailing_bytes = 0
        """Bytes of a chunk that are not its body: headers behind the last one, or notes that nobody reads."""
        self.in_body = False
        """A request's body, or what is left of one that has been answered already, is arriving."""
        self.head_timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None
        self.url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, in the place of an idle one where there are too many."""
        full = len(self.connections) >= self.limits.max_connections
        super().connection_made(transport)
        if full:
            self.shared.warn()
            if self.shared.idle:
                self.shared.idle.pop(oldest := next(iter(self.shared.idle)))
                oldest.end()
            elif len(self.connections) > self.limits.max_connections + RESERVED:
                transport.abort()
                return
            else:
                self.app = HealthChecksAlone(self.app, self.shared.respond)
        self.shared.idle[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self.shared.idle.pop(self, None)
        self._unset_keepalive_if_required()
        self._unset_head_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a piece of a request."""
        if self.cycle is None or self.cycle.response_complete:
            if HEADER.search(data):
                head, end, body = data.partition(HEAD_END)
                data = HEADER.sub(IGNORED, head) + end + body
            self.received_bytes = len(data)
            if self.in_head:
                self.head_bytes += len(data)
        else:
            self.trailing_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.in_body and self.cycle.response_complete:
            self._bound_rest()
        elif self.cycle is None or self.cycle.response_complete:
            self._check_head()
        elif self.trailing_bytes > self.limits.header_limit + READ_BYTES:
            self.note_bad_body()
            self.end()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.in_head, self.head_bytes, self.trailing_bytes = True, 0, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those behind a body are left out."""
        if self.in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is over a limit; an error ends the parser and the connection."""
        self.in_head, self.in_body = False, True
        self._unset_head_timer()
        if len(self.headers) > self.limits.max_headers:
            self._fail_too_large()
        if self.head_bytes + self.received_bytes > self.limits.header_limit:  # perhaps with a part of the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.header_limit:
                self._fail_too_large()
        self.shared.idle.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self.trailing_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self.in_body = False
        self._unset_head_timer()
        super().on_message_complete()

    def on_chunk_header(self) -> None:
        """Begin a chunk of a body."""
        self.trailing_bytes = 0

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_unread()
        elif self.cycle.response_complete:
            self.shared.idle[self] = None

    def send_400_response(self, msg: str) -> None:
        """Refuse a request whose head cannot be parsed, or is over a limit, which ends the parser as well."""
        if self.is_too_large:
            self._refuse(
                f"the request's line and headers have more than {self.limits.header_limit} bytes, or the headers are "
                f"more than {self.limits.max_headers}: send fewer",
                HEADERS_TOO_LARGE,
            )
        else:
            super().send_400_response(msg)
            self._abort_unread()

    def pause_writing(self) -> None:
        """Send no more until the client has read, for which it has its time."""
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.limits.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Send again."""
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection without requests."""
        super().timeout_keep_alive_handler()
        self._abort_unread()

    def shutdown(self) -> None:
        """End the connection after its request."""
        super().shutdown()
        self._abort_unread()

    def end(self) -> None:
        """End the connection, which has no request."""
        self.transport.close()
        self._abort_unread()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer a request."""
        if cycle.waiting_for_100_continue:
            app = UnaskedBodyCloses(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _bound_rest(self) -> None:
        """Bound the time in which the rest of a body may arrive that nobody reads."""
        if self.head_timer is None:
            self.head_timer = self.loop.call_later(self.limits.header_timeout, self.end)

    def _check_head(self) -> None:
        """Bound the time and the size of a head that has begun."""
        if self.in_head and self.head_bytes > self.limits.header_limit:
            self.is_too_large = True
            self.send_400_response("")
        elif self.head_timer is None and (self.in_head or self.cycle is None):
            self.head_timer = self.loop.call_later(self.limits.header_timeout, self._head_is_late)

    def _fail_too_large(self) -> NoReturn:
        self.is_too_large = True
        raise HeadTooLarge

    def _head_is_late(self) -> None:
        self.head_timer = None
        seconds = self.limits.header_timeout
        self._refuse(f"the headers have not arrived within {seconds:g} s: send them faster", REQUEST_TIMEOUT)

    def _unset_head_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def _refuse(self, message: str, kind: ErrorKind) -> None:
        """Send an error, unless another response is under way, and end the connection."""
        if self.cycle is None or self.cycle.response_complete:
            response = self.shared.respond(self.url.decode("latin-1"), message, kind)
            headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[kind.status] + lines + b"\r\n" + bytes(response.body))
        self.end()

    def _abort_unread(self) -> None:
        """End a connection that is being closed even if the client does not read what was sent to it."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(self.limits.write_timeout, self.transport.abort)


class UnaskedBodyCloses:
    """End the connection with a response that comes before the client was told to go on (RFC 9110, 10.1.1).

    Whether such a client still sends the body is its choice: what comes next could be that, or another request.
    """

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self.app, self.cycle = app, cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def note(message: Message) -> None:
            if self.cycle.waiting_for_100_continue:
                self.cycle.keep_alive = False
            await send(message)

        await self.app(scope, receive, note)


class HealthChecksAlone:
    """Pass on health checks, and return 503 for other requests; the connection ends with its first."""

    def __init__(self, app: ASGIApp, respond: Respond) -> None:
        self.app, self.respond = app, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = scope["path"].removeprefix(scope["root_path"]).rstrip("/")
        if path in OPEN:
            await self.app(scope, receive, send)
            return
        response = self.respond(path, FULL, OUT_OF_CONNECTIONS)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
