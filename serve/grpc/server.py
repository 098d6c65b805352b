"""A gRPC server in the event loop of the engine."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from serve.engine import Capability, Engine
from serve.errors import (
    DeadlineExceeded,
    DeviceLost,
    InputError,
    Overloaded,
    ServeError,
    ShuttingDown,
    UnknownAdapter,
    shortened,
)
from serve.grpc.messages import MESSAGES, PACKAGE
from serve.grpc.service import METHODS, Method, Service

SERVICE = f"{PACKAGE}.GRPCInferenceService"
CODES: dict[type[Exception], grpc.StatusCode] = {
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownAdapter: grpc.StatusCode.NOT_FOUND,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    DeviceLost: grpc.StatusCode.UNAVAILABLE,
    ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    ServeError: grpc.StatusCode.INTERNAL,
}
"""Status of an error; a class without an entry has that of its nearest base class."""
MAX_MESSAGE = 1000
"""Characters of an error's message; clients take 16 KB, where a character may have twelve bytes."""
logger = logging.getLogger(__name__)


class GrpcServer:
    """The Open Inference Protocol over gRPC, for an engine that classifies."""

    def __init__(self, engine: Engine, host: str, port: int, *, limit: int, payload_limit: int) -> None:
        """Describe a server.

        Args:
            engine: The engine, which this server neither starts nor drains.
            host: Address to listen on.
            port: 0 takes a free one.
            limit: Most texts in one request.
            payload_limit: Most bytes of one request.

        Raises:
            ServeError: The engine does not classify.
        """
        if Capability.CLASSIFY not in engine.capabilities:
            raise ServeError("gRPC serves classifiers, and there are none: leave out --grpc-port")
        self.service = Service(engine=engine, limit=limit)
        self.host, self.port, self.payload_limit = host, port, payload_limit
        self.server: Any = None

    async def start(self) -> None:
        """Listen; `port` is then the one that was taken.

        Raises:
            ServeError: The address is not free.
        """
        options = [("grpc.max_receive_message_length", self.payload_limit), ("grpc.so_reuseport", 0)]
        self.server = grpc.aio.server(options=options)
        handlers = {name: self._handler(*method) for name, method in METHODS.items()}
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        address = f"[{self.host}]" if ":" in self.host else self.host
        try:
            self.port = self.server.add_insecure_port(f"{address}:{self.port}")
        except RuntimeError as error:
            raise ServeError(f"cannot listen on {address}:{self.port}: give another --grpc-port") from error
        await self.server.start()
        logger.info("gRPC (Open Inference Protocol) on %s:%d", address, self.port)

    async def stop(self, seconds: float) -> None:
        """Take no more requests, and give those in flight so many seconds."""
        if self.server is not None:
            await self.server.stop(seconds)

    def _handler(self, request: str, method: Method) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            partial(_answer, partial(method, self.service)),
            request_deserializer=MESSAGES[request].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


async def _answer(method: Callable[[Any], Awaitable[Any]], request: Any, context: Any) -> Any:
    """Call a method; an error becomes a status, and a bug one that tells nothing of it."""
    try:
        return await method(request)
    except ServeError as error:
        code = next(CODES[base] for base in type(error).__mro__ if base in CODES)
        await context.abort(code, shortened(str(error), MAX_MESSAGE))
    except Exception:
        logger.exception("a gRPC request failed")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error; the server's log has the details")
