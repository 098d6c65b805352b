"""The life of a server: it warms up, reloads on SIGHUP, and stops without losing requests."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn

from serve.engine import Engine
from serve.errors import DeviceLost
from serve.readiness import Readiness

if TYPE_CHECKING:
    from serve.grpc.server import GrpcServer

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")
POLL_SECONDS = 0.05
LAST_WORDS_SECONDS = 2.0
"""Time in which requests that are cut off send their last words."""


class Server(uvicorn.Server):
    """A server of one engine, over HTTP and perhaps gRPC.

    When it is told to stop it is unready at once, takes requests for `drain_delay` seconds more, then closes its
    listener and has `exit_timeout` seconds for the requests in flight; others on connections that are open are refused
    meanwhile. Those that are left are cut off. A second SIGINT cuts them off now.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        readiness: Readiness,
        *,
        grpc: "GrpcServer | None" = None,
        drain_delay: float = 0.0,
        exit_timeout: float = 30.0,
        on_reload: Callable[[], bool] = lambda: True,
    ) -> None:
        """Describe a server.

        Args:
            config: Of uvicorn; it has no `timeout_graceful_shutdown`, whose part `exit_timeout` takes.
            engine: The engine that its application has.
            readiness: State that its health checks report.
            grpc: The gRPC server beside it.
            drain_delay: Seconds between unready and the end of the listener.
            exit_timeout: Seconds to complete requests in flight.
            on_reload: Called in a thread after SIGHUP, one call at a time; returns False if it changes nothing.
        """
        super().__init__(config)
        self.servers = []
        self.engine, self.readiness, self.grpc = engine, readiness, grpc
        self.drain_delay, self.exit_timeout, self.on_reload = drain_delay, exit_timeout, on_reload
        self.is_hurried = self.has_to_reload = False
        self.abandoned_before: int | None = None
        """Texts whose callers had gone away when requests were cut off; None if none were."""
        self.background: set[asyncio.Task[Any]] = set()
        """Warm-up and reload."""
        self.warming: asyncio.Task[None] | None = None
        self.reloading: asyncio.Task[bool] | None = None

    @property
    def unanswered(self) -> int:
        """Accepted texts that were cut off."""
        return 0 if self.abandoned_before is None else self.engine.stats().abandoned - self.abandoned_before

    @property
    def has_open_requests(self) -> bool:
        """True while there are requests over HTTP that are not answered."""
        return bool(self.server_state.tasks)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of SIGTERM or SIGINT.

        Signal handlers raise nothing: an exception is lost wherever Python ignores them, as in a weak reference's end.
        """
        self.is_hurried = self.is_hurried or (self.should_exit and sig == signal.SIGINT)
        self.should_exit = True

    def handle_reload(self, sig: int, frame: FrameType | None) -> None:
        """Take note of SIGHUP."""
        self.has_to_reload = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the engine, listen, and begin to warm up."""
        await super().startup(sockets)
        if self.grpc is not None:
            await self.grpc.start()
        self.warming = self._in_background(self._warm_up())

    async def on_tick(self, counter: int) -> bool:
        """Begin a reload that was asked for, unless one is under way."""
        if self.has_to_reload and (self.reloading is None or self.reloading.done()):
            self.has_to_reload = False
            self.reloading = self._in_background(asyncio.to_thread(self.on_reload))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that the server stops, wait for `drain_delay`, prepare the engine, and wait for open requests."""
        self.readiness.is_stopping = True
        if self.warming is not None:
            self.warming.cancel()
        if self.drain_delay:
            logger.info("unready; requests are taken for %g s more", self.drain_delay)
        await self._wait(self.drain_delay)
        self.readiness.is_closed = not self.readiness.is_retiring
        if self.readiness.is_closed:
            self.engine.prepare_to_drain()
        cutting = asyncio.create_task(self._cut_off_late())
        # gRPC's own time is the longer one, so that all requests are cut off at the same time.
        stopping = [] if self.grpc is None else [self.grpc.stop(self.exit_timeout + LAST_WORDS_SECONDS)]
        await asyncio.gather(self._finish(sockets), *stopping)
        cutting.cancel()

    async def _finish(self, sockets: list[socket.socket] | None) -> None:
        """Close the listener at once, and connections when no request is left: until then they refuse new ones.

        Where another process takes this one's place, connections without a request are closed at once: what their
        clients send next reaches that process.
        """
        for server in self.servers:
            server.close()
        while self.has_open_requests and self.readiness.is_closed:
            await asyncio.sleep(POLL_SECONDS)
        await super().shutdown(sockets)

    async def _warm_up(self) -> None:
        try:
            await self.engine.warm_up()
        except DeviceLost:
            return  # the engine has logged it, and is not live
        finally:
            self.readiness.is_warm = True

    async def _cut_off_late(self) -> None:
        """Cut off the requests that are open when their time is over."""
        await self._wait(self.exit_timeout)
        self.abandoned_before = self.engine.stats().abandoned
        tasks = [*self.server_state.tasks, *self.background]
        for task in tasks:
            task.cancel()
        if self.grpc is not None:
            await self.grpc.stop(0)
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
        for connection in list(self.server_state.connections):  # such as one whose client does not read
            connection.transport.abort()

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until a second SIGINT."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.is_hurried:
            await asyncio.sleep(min(left, POLL_SECONDS))

    def _in_background(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s", error, exc_info=error)
