"""The command adamix-serve."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from typing import TYPE_CHECKING

from serve.address import address
from serve.errors import ServeError

if TYPE_CHECKING:
    from serve.grpc.server import GrpcServer

try:
    import uvicorn
    from fastapi import FastAPI

    from serve.args import limits, load_options, parse_args
    from serve.bundle.reader import open_bundle, with_adapters_of_each
    from serve.engine import Engine
    from serve.engines import make_engines
    from serve.http.app import make_app
    from serve.http.server_protocol import NoUpgradeProtocol
except ImportError as error:
    sys.exit(
        f"adamix-serve needs ONNX Runtime ({error}): run pip install '.[cpu]' in a clone of the repository, "
        "or '.[gpu]' with a GPU"
    )

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Serve bundles over HTTP until SIGTERM or SIGINT."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        listener = _listen(args.host, args.port)
        if args.grpc_port:
            _listen(args.host, args.grpc_port, flag="--grpc-port").close()  # gRPC binds it itself, once it starts
        bundles = with_adapters_of_each([open_bundle(folder) for folder in args.bundles], args.adapter)
        engine = make_engines(bundles, limits(args), **load_options(args))
    except ServeError as error:
        sys.exit(f"adamix-serve: {error}")
    app = make_app(
        engine,
        max_client_batch_size=args.max_client_batch_size,
        payload_limit=args.payload_limit,
        body_timeout=args.body_timeout_secs,
        adapter_dir=args.adapter_dir,
        cors_origins=args.cors_origin,
    )
    grpc = _grpc_server(app, args)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http=NoUpgradeProtocol,
        ws="none",
        proxy_headers=False,
        root_path=args.root_path,
        timeout_keep_alive=args.keep_alive_secs,
        timeout_graceful_shutdown=args.exit_timeout_secs,
        lifespan="on",
    )
    server = _Server(config, engine, grpc)
    # While uvicorn starts, and when it is done and raises the signal that stopped it once more. The handler only
    # takes note: an exception from a handler is lost wherever Python ignores exceptions, as in a weak reference's end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    host, port = listener.getsockname()[:2]
    names = ", ".join(model.name for model in engine.models() if not (model.is_base or model.member_of))
    folders = ", ".join(map(str, args.bundles))
    logger.info("serving %s (%s) on http://%s", folders, names, address(host, port))
    try:
        server.run(sockets=[listener])
    except ServeError as error:
        sys.exit(f"adamix-serve: {error}")
    finally:
        if abandoned := engine.stats().abandoned - server.gone:
            logger.error("stopped; %d texts were not answered within the time to exit", abandoned)
        else:
            logger.info("stopped; every accepted request is answered")


class _Server(uvicorn.Server):
    """A server that tells its engine when it begins to stop: before it waits for open requests, not after."""

    def __init__(self, config: uvicorn.Config, engine: Engine, grpc: "GrpcServer | None" = None) -> None:
        super().__init__(config)
        self.engine, self.grpc = engine, grpc
        self.gone = 0
        """Texts whose callers went away before the server began to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the engine, and listen."""
        await super().startup(sockets)
        if self.grpc is not None:
            await self.grpc.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Prepare the engine, and wait for open requests."""
        self.gone = self.engine.stats().abandoned
        self.engine.prepare_to_drain()
        stopping = [] if self.grpc is None else [self.grpc.stop(self.config.timeout_graceful_shutdown or 0)]
        await asyncio.gather(super().shutdown(sockets), *stopping)


def _grpc_server(app: FastAPI, args: argparse.Namespace) -> "GrpcServer | None":
    """Return the gRPC server beside an application, whose requests its metrics count; None without --grpc-port."""
    if args.grpc_port is None:
        return None
    try:
        from serve.grpc.server import GrpcServer
    except ImportError as error:
        sys.exit(f"adamix-serve --grpc-port needs the extra grpc ({error}): run pip install '.[cpu,grpc]'")
    return GrpcServer(
        app.state.engine,
        args.host,
        args.grpc_port,
        limit=args.max_client_batch_size,
        payload_limit=args.payload_limit,
        adapter_dir=args.adapter_dir,
        on_request=app.state.metrics.request_finished,
    )


def _listen(host: str, port: int, *, flag: str = "--port") -> socket.socket:
    """Bind the port before the model is loaded, so that a port in use is reported at once."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        # Listening claims the port; a second server's bind fails from here on.
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"adamix-serve: cannot listen on {address(host, port)}: {reason}; give another {flag}")
    return listener


if __name__ == "__main__":
    main()
