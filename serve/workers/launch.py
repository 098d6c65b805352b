"""The parts of a server that are others where several processes serve: alone, or as a worker."""

import os
import socket
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKey, ApiKeys
from serve.engine import Engine
from serve.errors import ConfigurationError
from serve.lookup_room import NoSiblings, Siblings
from serve.served_settings import ServedSettings
from serve.server import Server
from serve.telemetry.outage import Outage
from serve.workers.supervisor import Plan, Supervisor, exit_seconds
from serve.workers.worker import Worker

LONGEST_FOLDER = 90
"""Bytes of the private folder's path: the address of a Unix socket has 107."""


class ServingProcess(Protocol):
    """A process that serves."""

    is_alone: bool
    """It is the whole server."""

    def settings(self, args: Namespace) -> Namespace:
        """Return the settings with this process's share of the threads."""

    def kept_settings(self) -> ServedSettings | None:
        """Return the settings that the rest of the server runs with; None where they are to be read."""

    def keep(self, settings: ServedSettings) -> None:
        """Keep the settings of this process, once it serves, for one that is started again."""

    def api_keys(self, keys: dict[str, ApiKey]) -> ApiKeys:
        """Return API keys with allowances for the whole server."""

    def outage(self) -> Outage:
        """Return the state of the collector as the whole server knows it."""

    def share(self, engine: Engine, named: Mapping[Path, str]) -> Engine:
        """Return an engine that has the adapters of the whole server.

        Args:
            engine: The engine of this process.
            named: Names of its adapters by their folders.
        """

    def loading(self, engine: Engine, root: Path | None, started: Mapping[Path, str]) -> AdapterLoading:
        """Return the adapters of folders, as the whole server knows them.

        Args:
            engine: The engine of `share`.
            root: The folder below which they lie.
            started: Names of adapters that are served for the sake of --adapter, by their folders.
        """

    def siblings(self) -> Siblings:
        """Return the other processes of the server."""

    def attach(self, app: FastAPI) -> None:
        """Have an application speak for the whole server."""

    def server(self, *arguments: Any, **options: Any) -> Server:
        """Return a `Server` of the arguments."""


class SingleProcess:
    """A server that is one process."""

    is_alone = True

    def settings(self, args: Namespace) -> Namespace:
        """Return the settings as they are."""
        return args

    def kept_settings(self) -> ServedSettings | None:
        """Return None."""
        return None

    def keep(self, settings: ServedSettings) -> None:
        """Keep nothing."""

    def api_keys(self, keys: dict[str, ApiKey]) -> ApiKeys:
        """Return API keys with their allowances."""
        return ApiKeys(keys)

    def outage(self) -> Outage:
        """Return the state of the collector."""
        return Outage()

    def share(self, engine: Engine, named: Mapping[Path, str]) -> Engine:
        """Return the engine."""
        return engine

    def loading(self, engine: Engine, root: Path | None, started: Mapping[Path, str]) -> AdapterLoading:
        """Return the adapters of folders."""
        return AdapterLoading(engine=engine, root=root, started=started)

    def siblings(self) -> Siblings:
        """Return none."""
        return NoSiblings()

    def attach(self, app: FastAPI) -> None:
        """Leave the application as it is."""

    def server(self, *arguments: Any, **options: Any) -> Server:
        """Return the server."""
        return Server(*arguments, **options)


def supervise(args: Namespace, listener: socket.socket) -> ServingProcess:
    """Fork `args.workers` workers, and return in each of them; this process supervises them, and exits with them.

    Args:
        args: The settings.
        listener: The socket that all accept connections from.
    """
    listener.setblocking(False)
    reserved = [] if args.grpc_port is None else [_reserved(args.host, args.grpc_port)]
    plan = Plan(
        workers=args.workers,
        listener=listener,
        heartbeat_timeout=args.worker_timeout_secs,
        exit_seconds=exit_seconds(args.drain_delay, args.exit_timeout_secs),
        reserved=reserved,
    )
    found = Supervisor(plan, _private_folder()).run()
    if isinstance(found, int):
        sys.exit(found)
    return Worker(found)


def _private_folder() -> Path:
    """Return a new folder that nobody else can enter.

    Raises:
        ConfigurationError: There can be none, or sockets in it would have too long a name.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="adamix-serve-"))
    except OSError as error:
        raise ConfigurationError(f"--workers needs a folder for temporary files, TMPDIR: {error.strerror}") from error
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        folder.rmdir()
        raise ConfigurationError(f"--workers: {folder.parent} is too long a name for sockets: set TMPDIR to another")
    return folder


def _reserved(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port for the workers, which listen on it by themselves; it does not listen."""
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(place)
    return found
