"""The server of a worker: it shares its port, has a heartbeat, and retires for a successor."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from serve.server import POLL_SECONDS, Server
from serve.tls import HANDSHAKE_SECONDS
from serve.workers.acceptor import Acceptor
from serve.workers.board import WorkerState, WorkerStatus
from serve.workers.place import WorkerPlace

RETIRE_SECONDS = 5.0
"""Time in which clients of a worker that retires end their connections, each at its next response."""
logger = logging.getLogger(__name__)


class WorkerServer(Server):
    """A server that is one of several."""

    def __init__(self, *arguments: Any, place: WorkerPlace, on_ready: Callable[[], None], **options: Any) -> None:
        """Describe a server, as `Server` does, in a place; it tells the status board how it is.

        Args:
            arguments: Those of `Server`, and so are `options`.
            place: Its place among the workers.
            on_ready: Called when it is ready for the first time.
            options: Named arguments of `Server`.
        """
        super().__init__(*arguments, **options)
        self.place, self.board, self.on_ready = place, place.board, on_ready
        self.is_retiring = self.is_ready = False
        self.reloads = self.failed_reloads = 0
        self.listeners: list[socket.socket] = []
        """Sockets that it does not accept from yet."""
        self.acceptors: list[Acceptor] = []

    @property
    def has_open_requests(self) -> bool:
        """True while there are requests on any worker of a server that stops: clients find the same on all."""
        self._count_requests()
        others = self._siblings(*WorkerState) if self.board.is_stopping else ()
        return super().has_open_requests or any(one.requests for one in others)

    def handle_retire(self, sig: int, frame: FrameType | None) -> None:
        """Take note that a successor is ready."""
        self.is_retiring = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of SIGTERM or SIGINT; a worker that retires stops with the others, and refuses as they do."""
        if self.is_retiring:
            self.is_retiring = self.readiness.is_retiring = False
            self.readiness.is_closed = self.readiness.is_stopping
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as any server, and accept the connections that are this worker's.

        Where a sibling is ready, so that the server is, it warms up first.
        """
        await super().startup([])
        self.listeners = list(sockets or [])
        self._accept_if_due()
        self._tell(WorkerState.WARMING)

    async def on_tick(self, counter: int) -> bool:
        """Tell the status board that the event loop runs."""
        reloading = self.reloading
        leaves = await super().on_tick(counter)
        self._accept_if_due()
        if self.readiness.is_warm and not self.is_ready:
            self.is_ready = True
            self.on_ready()
        self._tell(WorkerState.READY if self.is_ready else WorkerState.WARMING)
        if reloading is not None and reloading.done() and reloading is self.reloading:
            self.reloading, self.reloads = None, self.reloads + 1
            self.failed_reloads += int(
                reloading.cancelled() or reloading.exception() is not None or not reloading.result()
            )
            self.board.set(self.place.entry, "failed_reloads", self.failed_reloads)
            self.board.set(self.place.entry, "reloads", self.reloads)
        return leaves

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as any server; one that retires first lets clients take their connections elsewhere."""
        self._tell(WorkerState.STOPPING)
        if self.is_retiring:
            await self._retire()
        if self.is_retiring:
            self.drain_delay = 0.0
        await super().shutdown(self.listeners)

    async def _retire(self) -> None:
        """Accept no more, and close each connection with its next response; idle ones have `RETIRE_SECONDS`."""
        self.readiness.is_retiring = True
        for acceptor in self.acceptors:
            acceptor.close()
        end = time.monotonic() + RETIRE_SECONDS
        while self.is_retiring and self.server_state.connections and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)

    def _accept_if_due(self) -> None:
        if self.listeners and (self.readiness.is_warm or not any(self._siblings(WorkerState.READY))):
            self.acceptors = [Acceptor(one, self._connect, self._is_busier) for one in self.listeners]
            self.servers += self.acceptors  # type: ignore[arg-type]
            self.listeners = []

    def _siblings(self, *states: WorkerState) -> Iterator[WorkerStatus]:
        """Yield the other workers that are in one of these states."""
        return (one for one in self.board.workers() if one.entry != self.place.entry and one.state in states)

    def _connect(self, connection: socket.socket) -> "asyncio.Future[object]":
        """Serve a connection."""
        tls = self.config.ssl
        loop, protocol = asyncio.get_running_loop(), self.config.http_protocol_class
        return asyncio.ensure_future(
            loop.connect_accepted_socket(
                lambda: protocol(  # type: ignore[call-arg]
                    config=self.config, server_state=self.server_state, app_state=self.lifespan.state
                ),
                connection,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            )
        )

    def _is_busier(self) -> bool:
        """Return whether a sibling that accepts has fewer connections."""
        own = self._count()
        self.board.set(self.place.entry, "connections", own)
        return any(one.connections < own for one in self._siblings(WorkerState.READY))

    def _count(self) -> int:
        connecting = sum(len(acceptor.connecting) for acceptor in self.acceptors)
        return len(self.server_state.connections) + connecting

    def _count_requests(self) -> None:
        self.board.set(self.place.entry, "requests", len(self.server_state.tasks))

    def _tell(self, state: WorkerState) -> None:
        self._count_requests()
        for field, value in (("state", state), ("heartbeat", time.monotonic()), ("connections", self._count())):
            self.board.set(self.place.entry, field, value)
