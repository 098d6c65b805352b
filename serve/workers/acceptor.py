"""Connections from a socket that several workers accept from, each taken by the worker that has the fewest.

The kernel wakes all that wait for a shared socket, and a worker that accepts all it can would take a burst whole.
SO_REUSEPORT shares out evenly but by chance, and a connection in the queue of a worker that dies or hangs is lost with
it; here it waits in the one queue for a worker that takes it.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable

BUSIER_SECONDS = 0.001
"""Time that a worker with more connections than another one leaves it to take the next."""
MOST_DELAYS = 4
"""Times that it does so before it takes it itself."""
Connect = Callable[[socket.socket], "asyncio.Future[object]"]


class Acceptor:
    """Accepts connections one at a time; uvicorn closes it like a server of asyncio."""

    def __init__(self, listener: socket.socket, connect: Connect, is_busier: Callable[[], bool]) -> None:
        """Describe it.

        Args:
            listener: The shared socket, which does not block.
            connect: Serves a connection.
            is_busier: Returns whether another worker should take the next connection.
        """
        self.listener, self.connect, self.is_busier = listener, connect, is_busier
        self.loop = asyncio.get_running_loop()
        self.readable = select.poll()
        self.readable.register(listener, select.POLLIN)
        self.delays = 0
        self.delay: asyncio.TimerHandle | None = None
        self.connecting: set[asyncio.Future[object]] = set()
        self.is_closed = False
        self._listen()

    def close(self) -> None:
        """Accept no more; the socket goes on listening for the other workers."""
        if not self.is_closed:
            self.is_closed = True
            if self.delay is not None:
                self.delay.cancel()
            self.loop.remove_reader(self.listener.fileno())
            self.listener.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that are being made."""
        if self.connecting:
            await asyncio.wait(self.connecting)

    def _listen(self) -> None:
        if self.delay is not None:
            self.delay = None
            if not self.readable.poll(0):  # another worker has taken it
                self.delays = 0
        self.loop.add_reader(self.listener.fileno(), self._accept)

    def _accept(self) -> None:
        if self.delays < MOST_DELAYS and self.is_busier():
            self.delays += 1
            self.loop.remove_reader(self.listener.fileno())
            self.delay = self.loop.call_later(BUSIER_SECONDS, self._listen)
            return
        self.delays = 0
        with contextlib.suppress(OSError):  # another worker was faster, or the client has gone
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made = asyncio.ensure_future(self.connect(connection))
            self.connecting.add(made)
            made.add_done_callback(self._made)

    def _made(self, made: "asyncio.Future[object]") -> None:
        self.connecting.discard(made)
        if not made.cancelled():
            made.exception()  # such as a handshake that failed; the connection is closed
