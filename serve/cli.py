"""The command adamix-serve."""

import argparse
import logging
import os
import signal
import socket
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.address import address, is_loopback
from serve.errors import ConfigurationError, ServeError

if TYPE_CHECKING:
    from serve.grpc.server import GrpcServer

try:
    import uvicorn
    from fastapi import FastAPI

    from serve.adapter_loading import AdapterLoading
    from serve.adapter_service import check_adapter_settings, load_pinned, watched, with_lookup
    from serve.api_keys import ApiKeys
    from serve.application import application, open_bundles
    from serve.args import idle_settings, load_options, make_parser, parse_args, read_args
    from serve.check import as_json, as_text, check
    from serve.cluster import deploy
    from serve.connection_flags import connection_limits
    from serve.engines import make_engines
    from serve.event_loop import ServerLoop
    from serve.http.server_protocol import Connections
    from serve.limit_flags import limits
    from serve.readiness import Readiness
    from serve.reload import Reloader, Running
    from serve.served_settings import ServedSettings, read_files, served
    from serve.server import Server
    from serve.settings import unknown_variables
    from serve.telemetry.flags import request_tracer
    from serve.telemetry.logs import configure_logging
    from serve.tls import Tls
    from serve.workers.launch import ServingProcess, SingleProcess, supervise
except ImportError as error:
    sys.exit(
        f"adamix-serve needs ONNX Runtime ({error}): run pip install '.[cpu]' in a clone of the repository, "
        "or '.[gpu]' with a GPU"
    )

logger = logging.getLogger(__name__)
DEPLOY = "deploy"
"""First word of a command line that deploys on a cluster; a bundle of this name is ./deploy."""


def main(argv: list[str] | None = None) -> None:
    """Serve bundles over HTTP until SIGTERM or SIGINT, check that they can be served, or deploy them on a cluster."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == [DEPLOY]:
        deploy.main(words[1:])
        return
    try:
        args = _settings(argv)
    except ServeError as error:
        sys.exit(f"adamix-serve: {error}")
    configure_logging(args.log_format, logging.WARNING if args.check else logging.INFO)
    try:
        _run(args, argv)
    except (ServeError, SystemExit) as error:
        reason = error.code if isinstance(error, SystemExit) else f"adamix-serve: {error}"
        if args.log_format == "text" or not isinstance(reason, str):
            sys.exit(reason)
        logger.critical(reason.removeprefix("adamix-serve: "))
        sys.exit(1)


def _run(args: argparse.Namespace, argv: list[str] | None) -> None:
    try:
        if unknown := unknown_variables(make_parser(), os.environ):
            logger.warning("no setting is called %s", ", ".join(unknown))
        for line in idle_settings(args):
            logger.warning("%s", line)
        check_adapter_settings(args)
        if args.check:
            _check(args)
        else:
            _serve(args, argv)
    except KeyboardInterrupt:  # while bundles are opened
        sys.exit(128 + signal.SIGINT)


def _settings(argv: list[str] | None) -> argparse.Namespace:
    """Return the settings; with --check what is wrong with them is one line, and with --json JSON too."""
    line = set(sys.argv[1:] if argv is None else argv)
    if "--check" not in line:
        return parse_args(argv)
    try:
        return read_args(argv)
    except ServeError as error:
        if "--json" in line:
            print(as_json({"ok": False, "error": str(error)}))
        raise


def _check(args: argparse.Namespace) -> None:
    """Print what a server would serve."""
    try:
        if args.grpc_port is not None:
            _grpc_class()
        request_tracer(args)
        engine = make_engines(open_bundles(args), limits(args), **load_options(args))
        load_pinned(AdapterLoading(engine=engine, root=args.adapter_dir), args)
        found = check(engine, args)
    except ServeError as error:
        if args.json:
            print(as_json({"ok": False, "error": str(error)}))
        raise
    print(as_json({"ok": True, **found}) if args.json else as_text(found))


def _serve(args: argparse.Namespace, argv: list[str] | None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to read again yet
    listener = _listen(args.host, args.port)
    if args.grpc_port:
        _listen(args.host, args.grpc_port, flag="--grpc-port").close()  # gRPC binds it itself, once it starts
    process: ServingProcess = SingleProcess()
    if args.workers > 1:
        process = supervise(args, listener)  # from here on this is one of the workers
    kept = process.kept_settings()
    if kept is None:
        kept = read_files(args if process.is_alone else parse_args(argv))
    args, tls = kept.settings, None if kept.tls is None else Tls(kept.tls)
    api_keys = _api_keys(kept, process)
    bundles = open_bundles(args)
    named = {folder: name for one in bundles for name, adapter in one.adapters.items() if (folder := adapter.folder)}
    engine = process.share(make_engines(bundles, limits(args), **load_options(process.settings(args))), named)
    started = {folder: named[folder] for folder in args.adapter}
    loading = process.loading(engine, args.adapter_dir, started)
    engine = with_lookup(engine, loading, args, process.siblings())
    load_pinned(loading, args)
    readiness = Readiness(engine, is_warm=False)
    app = application(engine, readiness, api_keys, loading, args, process.outage())
    process.attach(app)
    running = _running(app, started, tls)

    def keep(settings: argparse.Namespace) -> None:
        process.keep(served(settings, api_keys, tls))

    keep(args)
    server = process.server(
        _uvicorn_config(app, args, tls),
        engine,
        readiness,
        grpc=_grpc_server(app, args, tls, process),
        drain_delay=args.drain_delay,
        exit_timeout=args.exit_timeout_secs,
        on_reload=Reloader(running, args, partial(read_args, argv), keep=keep),
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # while uvicorn starts, and when it is done
        signal.signal(number, server.handle_exit)
    signal.signal(signal.SIGHUP, server.handle_reload)
    host, port = listener.getsockname()[:2]
    names = ", ".join(model.name for model in engine.models() if not (model.is_base or model.member_of))
    folders = ", ".join(map(str, args.bundles))
    logger.info("serving %s (%s) on %s://%s", folders, names, "https" if tls else "http", address(host, port))
    with watched(loading, args), closing(app.state.observer):
        _run_server(server, listener)


def _run_server(server: Server, listener: socket.socket) -> None:
    """Serve until a signal, and log whether all requests were answered."""
    try:
        server.run(sockets=[listener])
    finally:
        if server.unanswered:
            logger.error("stopped; %d texts were not answered within the time to exit", server.unanswered)
        else:
            logger.info("stopped; every accepted request is answered")


def _running(app: FastAPI, started: dict[Path, str], tls: Tls | None) -> Running:
    """Return the parts of a server that a reload changes; `started` are those of `Running.names`."""
    return Running(
        engine=app.state.engine,
        loading=app.state.adapter_loading,
        names=started,
        api_keys=app.state.api_keys,
        tls=tls,
    )


def _api_keys(kept: ServedSettings, process: ServingProcess) -> ApiKeys | None:
    """Return the API keys; None, with a warning where other machines may reach the server, answers anybody."""
    keys, host = kept.api_keys(), kept.settings.host
    if keys is None and not is_loopback(host):
        logger.warning("anybody who reaches %s is answered: see --api-keys", host)
    return None if keys is None else process.api_keys(keys)


def _uvicorn_config(app: FastAPI, args: argparse.Namespace, tls: Tls | None) -> uvicorn.Config:
    connections: Any = Connections(app.state.error_responder.response, connection_limits(args))
    return uvicorn.Config(
        app,
        log_config=None,  # its lines go where all go
        log_level="warning",
        access_log=False,
        loop=f"{ServerLoop.__module__}:{ServerLoop.__qualname__}",
        http=connections,
        ssl_context_factory=None if tls is None else lambda config, default: tls.context,
        ws="none",
        proxy_headers=False,
        root_path=args.root_path,
        timeout_keep_alive=args.keep_alive_secs,
        lifespan="on",
    )


def _grpc_server(
    app: FastAPI, args: argparse.Namespace, tls: Tls | None, process: ServingProcess
) -> "GrpcServer | None":
    """Return the gRPC server beside an application, whose requests its metrics count; None without --grpc-port."""
    if args.grpc_port is None:
        return None
    return _grpc_class()(
        app.state.engine,
        args.host,
        args.grpc_port,
        limit=args.max_client_batch_size,
        payload_limit=args.payload_limit,
        loading=app.state.adapter_loading,
        on_request=app.state.metrics.request_finished,
        readiness=app.state.readiness,
        api_keys=app.state.api_keys,
        observer=app.state.observer,
        tls=tls,
        idle_seconds=args.keep_alive_secs,
        shares_port=not process.is_alone,
    )


def _grpc_class() -> "type[GrpcServer]":
    try:
        from serve.grpc.server import GrpcServer
    except ImportError as error:
        raise ConfigurationError(
            f"--grpc-port needs the extra grpc ({error}): run pip install '.[cpu,grpc]'"
        ) from error
    return GrpcServer


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
