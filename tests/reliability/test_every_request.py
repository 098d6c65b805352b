"""Thousands of requests of every kind: memory stays as it is, and no thread, socket or file is left over."""

import asyncio
import time
from collections.abc import Callable, Iterator

import grpc
import httpx
import pytest

from tests.reliability.both_engines import counted, grpc_address_of, serve_both
from tests.reliability.conftest import Server
from tests.reliability.every_request import KINDS, Clients, unasked
from tests.serve.conftest import Reference

AT_A_TIME = 6
GROWTH = {1_500: 0.05, 20_000: 0.02}
"""Requests in all, and the share by which memory may grow after the first tenth of them."""
IDLE_SECONDS = 1
MORE = {"threads": 4, "sockets": 0, "files": 0}
"""How many more there may be at the end: pools begin their threads as they need them, up to a number."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Iterator[Server]:
    with serve_both(tmp_path_factory.mktemp("every"), reference, "--keep-alive-secs", IDLE_SECONDS) as server:
        deadline = time.monotonic() + 60
        while httpx.get(f"{server.address}/health/ready").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield server


async def ask_all(server: Server, count: int, after_a_tenth: Callable[[], None]) -> list[str]:
    """Send so many requests, each kind in turn, a few at a time; return what went wrong."""
    grpc_address = grpc_address_of(server)
    wrong, turns, names = [], iter(range(count)), list(KINDS)
    limits = httpx.Limits(max_connections=AT_A_TIME * 2)
    async with (
        httpx.AsyncClient(base_url=server.address, timeout=60, limits=limits) as client,
        grpc.aio.insecure_channel(grpc_address) as channel,
    ):
        assert not unasked((await client.get("/openapi.json")).json())
        clients = Clients(client, channel)

        async def work() -> None:
            for turn in turns:
                name = names[turn % len(names)]
                try:
                    await KINDS[name](clients)
                except (AssertionError, httpx.HTTPError, grpc.aio.AioRpcError) as error:
                    wrong.append(f"{name}: {error!r}"[:500])
                if turn == count // 10:
                    after_a_tenth()

        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return wrong


@pytest.mark.parametrize("count", [1_500, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_requests_of_every_kind_leave_nothing_over(count: int, server: Server, figure: Callable[[str], None]) -> None:
    wrong = asyncio.run(ask_all(server, len(KINDS), lambda: None))
    assert not wrong, "\n".join(wrong)
    time.sleep(IDLE_SECONDS + 0.5)
    quiet, early = counted(server), {}
    started = time.monotonic()
    wrong = asyncio.run(ask_all(server, count, lambda: early.update(counted(server))))
    seconds = time.monotonic() - started
    late = counted(server)
    end = time.monotonic() + 20
    while any((after := counted(server))[name] > quiet[name] + more for name, more in MORE.items()):
        assert time.monotonic() < end, f"{quiet} before, {after} after"
        time.sleep(0.1)
    growth = late["memory"] / early["memory"] - 1
    figure(
        f"{count} requests of {len(KINDS)} kinds in {seconds:.0f} s: memory {early['memory'] / 1e3:.1f} MB after a "
        f"tenth, {late['memory'] / 1e3:.1f} at the end ({growth:+.1%}); before and after {quiet['threads']} and "
        f"{after['threads']} threads, {quiet['sockets']} and {after['sockets']} sockets, {quiet['files']} and "
        f"{after['files']} files"
    )
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong[:20]])
    assert growth < GROWTH[count]
