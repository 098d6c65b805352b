"""A gRPC server in the event loop of the engine."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc

from serve.adapter_loading import AdapterLoading
from serve.address import address
from serve.api_keys import ApiKeys, client_key, presented_key
from serve.engine import Engine
from serve.errors import (
    AdapterFailed,
    DeadlineExceeded,
    DeviceLost,
    InputError,
    NotAllowed,
    NotAuthenticated,
    Overloaded,
    ServeError,
    ShuttingDown,
    UnknownAdapter,
    shortened,
)
from serve.grpc.calls import Call, given_by
from serve.grpc.messages import PACKAGE, parse_request, whole
from serve.grpc.service import COUNTED, METHODS, STREAMS, Method, Service, StreamMethod, stream_error
from serve.readiness import Readiness
from serve.request_context import request_id_of
from serve.telemetry.request_observer import RequestObserver
from serve.tls import HANDSHAKE_SECONDS, Tls

SERVICE = f"{PACKAGE}.GRPCInferenceService"
CODES: dict[type[Exception], grpc.StatusCode] = {
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    UnknownAdapter: grpc.StatusCode.NOT_FOUND,
    AdapterFailed: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    DeviceLost: grpc.StatusCode.UNAVAILABLE,
    ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    ServeError: grpc.StatusCode.INTERNAL,
}
"""Status of an error; a class without an entry has that of its nearest base class."""
LIBRARY = "grpc._cython.cygrpc"
"""Name of the logger of gRPC itself."""
OPEN = frozenset({"ServerLive", "ServerReady"})
"""Methods of health checks, which need no API key."""
MAX_MESSAGE = 1000
"""Characters of an error's message; clients take 16 KB, where a character may have twelve bytes."""
HOLD_SECONDS, TOLD_SECONDS = 0.1, 0.05
"""Time at the end of a server in which answers are held back, and that in which clients hear of the end."""
OnRequest = Callable[[str, str, float], None]
"""Takes a method's name, the name of its status, and seconds."""
logger = logging.getLogger(__name__)


class GrpcServer:
    """The Open Inference Protocol over gRPC."""

    def __init__(
        self,
        engine: Engine,
        host: str,
        port: int,
        *,
        limit: int,
        payload_limit: int,
        loading: AdapterLoading | None = None,
        on_request: OnRequest | None = None,
        readiness: Readiness | None = None,
        api_keys: ApiKeys | None = None,
        observer: RequestObserver | None = None,
        tls: Tls | None = None,
        idle_seconds: float = 75.0,
        shares_port: bool = False,
    ) -> None:
        """Describe a server.

        Args:
            engine: The engine, which this server neither starts nor drains.
            host: Address to listen on.
            port: 0 takes a free one.
            limit: Most texts in one request.
            payload_limit: Most bytes of one request.
            loading: Adapters that clients load; None lets them load none.
            on_request: Called when a request is answered, or a stream has begun to answer one.
            readiness: State that health checks report; None is ready until the engine drains.
            api_keys: Keys of which a request needs one, in its metadata; None answers anybody.
            observer: Keeps what logs and traces need of requests; None keeps nothing.
            tls: Certificate, key and authorities; None serves without TLS.
            idle_seconds: Seconds after which a connection without requests is closed.
            shares_port: Other processes listen on the port as well.
        """
        loading = loading or AdapterLoading(engine=engine, root=None)
        self.service = Service(engine=engine, loading=loading, limit=limit, readiness=readiness or Readiness(engine))
        self.on_request, self.api_keys = on_request, api_keys
        self.observer = observer or RequestObserver(engine)
        self.tls, self.idle_seconds, self.shares_port = tls, idle_seconds, shares_port
        self.host, self.port, self.payload_limit = host, port, payload_limit
        self.server: Any = None
        self.answers_are_sent = asyncio.Event()
        """Not set while answers are held back."""
        self.answers_are_sent.set()

    async def start(self) -> None:
        """Listen; `port` is then the one that was taken.

        Raises:
            ServeError: The address is not free.
        """
        options = [
            ("grpc.max_receive_message_length", self.payload_limit),
            ("grpc.so_reuseport", int(self.shares_port)),
            ("grpc.max_connection_idle_ms", round(self.idle_seconds * 1000)),
            ("grpc.server_handshake_timeout_ms", round(1000 * HANDSHAKE_SECONDS)),
        ]
        logging.getLogger(LIBRARY).addFilter(_without_traceback)
        self.server = grpc.aio.server(options=options)
        handlers = {name: self._handler(name, *method) for name, method in METHODS.items()}
        handlers |= {name: self._stream_handler(name, *method) for name, method in STREAMS.items()}
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        asked = address(self.host, self.port)
        try:
            self.port = self._add_port(asked)
        except RuntimeError as error:
            raise ServeError(f"cannot listen on {asked}: give another --grpc-port") from error
        await self.server.start()
        logger.info("gRPC (Open Inference Protocol) on %s", address(self.host, self.port))

    def _add_port(self, asked: str) -> int:
        if self.tls is None:
            port: int = self.server.add_insecure_port(asked)
        else:
            port = self.server.add_secure_port(asked, _credentials(self.tls))
        return port

    async def stop(self, seconds: float) -> None:
        """Take no more requests, and give those in flight so many seconds.

        gRPC cancels a call that comes before its client has heard of the end. So answers are held back first, while
        their clients begin no other call, and sent when all have been told.
        """
        if self.server is None:
            return
        if seconds:
            self.answers_are_sent.clear()
            await asyncio.sleep(HOLD_SECONDS)
        stopping = asyncio.ensure_future(self.server.stop(seconds))
        if seconds:
            await asyncio.sleep(TOLD_SECONDS)
        self.answers_are_sent.set()
        await stopping

    def _handler(self, name: str, request: str, method: Method) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, name, method),
            request_deserializer=partial(parse_request, request),
            response_serializer=_as_bytes,
        )

    def _stream_handler(self, name: str, request: str, method: StreamMethod) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(
            partial(self._answer_stream, name, method),
            request_deserializer=partial(parse_request, request),
            response_serializer=_as_bytes,
        )

    async def _answer(self, name: str, method: Method, request: Any, context: Any) -> Any:
        """Call a method; an error becomes a status."""
        call = Call(self.observer, SERVICE, name, context, is_work=name in COUNTED)
        context.set_trailing_metadata(call.metadata())
        call.receive(request)
        try:
            self._authenticate(name, context)
            answer = await method(self.service, whole(request))
            await self.answers_are_sent.wait()
        except (Exception, asyncio.CancelledError) as error:
            code, message = _status(error)
            self._end(call, code)
            if isinstance(error, asyncio.CancelledError):
                raise
            await self.answers_are_sent.wait()
            await context.abort(code, message, call.metadata())
        call.send(answer)
        self._end(call, grpc.StatusCode.OK)
        return answer

    def _end(self, call: Call, code: grpc.StatusCode) -> None:
        self._count(call, code)
        call.finish(code)

    async def _answer_stream(
        self, name: str, method: StreamMethod, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Answer the requests of a stream one after the other; an error becomes the response to its request.

        All have the stream's id. A request without a known API key ends the stream.
        """
        request_id = request_id_of(given_by(context).get("request_id", ""))
        context.set_trailing_metadata((("x-request-id", request_id),))
        async for request in requests:
            call = Call(self.observer, SERVICE, name, context, is_work=True, request_id=request_id)
            call.receive(request)
            code, begun = grpc.StatusCode.CANCELLED, False
            try:
                self._authenticate(name, context)
                async for response in method(self.service, whole(request)):
                    if not begun:
                        self._count(call, grpc.StatusCode.OK)
                    begun = True
                    call.send(response, in_stream=True)
                    yield response
                code = grpc.StatusCode.OK
            except Exception as error:
                code, message = _status(error)
                if isinstance(error, NotAuthenticated):
                    await context.abort(code, message)
                if not begun:
                    self._count(call, code)
                yield stream_error(request, message)
            finally:
                call.finish(code)
        await self.answers_are_sent.wait()

    def _authenticate(self, name: str, context: Any) -> None:
        """Take the key of a request for all that handles it; raise NotAuthenticated without one that is known."""
        if self.api_keys is not None and name not in OPEN:
            metadata = {
                key.encode(): value.encode() for key, value in context.invocation_metadata() if type(value) is str
            }
            client_key.set(self.api_keys.authenticate(presented_key(metadata)))

    def _count(self, call: Call, code: grpc.StatusCode) -> None:
        if self.on_request is not None and call.is_work:
            self.on_request(call.method, code.name, time.monotonic() - call.request.start_time)


def _status(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Return the status of an error and its message; that of a bug tells nothing of it."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED, "the request was cancelled"
    if isinstance(error, ServeError):
        code = next(CODES[base] for base in type(error).__mro__ if base in CODES)
        return code, shortened(str(error), MAX_MESSAGE)
    logger.error("a gRPC request failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; the server's log has the details"


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave out the traceback of a header that is no UTF-8, or of a client that has left: any client may do so."""
    if record.exc_info and type(record.exc_info[1]).__name__ in ("UnicodeDecodeError", "ExecuteBatchError"):
        record.exc_info = None
    return True


def _as_bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that are those of `tls` for each new connection."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        content = tls.content
        return grpc.ssl_server_certificate_configuration([(content.key, content.cert)], content.client_ca)

    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=tls.content.client_ca is not None
    )
