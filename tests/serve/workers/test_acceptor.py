import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from serve.workers.acceptor import BUSIER_SECONDS, MOST_DELAYS, Acceptor


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


class Worker:
    """Takes connections, as a worker does."""

    def __init__(self, *, busier: bool) -> None:
        self.busier = busier
        self.taken: list[socket.socket] = []

    async def connect(self, connection: socket.socket) -> None:
        self.taken.append(connection)

    def accept_from(self, listener: socket.socket) -> Acceptor:
        return Acceptor(listener.dup(), lambda one: asyncio.ensure_future(self.connect(one)), lambda: self.busier)


def test_a_worker_that_is_busier_leaves_a_connection_to_the_other(listener: socket.socket) -> None:
    idle, busy = Worker(busier=False), Worker(busier=True)

    async def serve() -> None:
        acceptors = [busy.accept_from(listener), idle.accept_from(listener)]
        for _ in range(5):
            with socket.create_connection(listener.getsockname()):
                await asyncio.sleep(0.02)
        for one in acceptors:
            one.close()

    asyncio.run(serve())
    assert (len(idle.taken), len(busy.taken)) == (5, 0)


def test_it_takes_what_nobody_else_does(listener: socket.socket) -> None:
    busy = Worker(busier=True)

    async def serve() -> float:
        acceptor, started = busy.accept_from(listener), time.monotonic()
        with socket.create_connection(listener.getsockname()):
            while not busy.taken:
                await asyncio.sleep(0.0005)
        acceptor.close()
        return time.monotonic() - started

    assert asyncio.run(serve()) >= MOST_DELAYS * BUSIER_SECONDS
    assert len(busy.taken) == 1


def test_a_closed_one_leaves_the_socket_to_the_others(listener: socket.socket) -> None:
    closed, other = Worker(busier=False), Worker(busier=False)

    async def serve() -> None:
        acceptor = closed.accept_from(listener)
        acceptor.close()
        acceptor.close()
        await acceptor.wait_closed()
        left = other.accept_from(listener)
        with socket.create_connection(listener.getsockname()):
            await asyncio.sleep(0.05)
        left.close()

    asyncio.run(serve())
    assert (len(closed.taken), len(other.taken)) == (0, 1)
