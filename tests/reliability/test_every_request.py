"""Thousands of requests of every kind: memory stays as it is, and no thread, socket or file is left over."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.reliability.conftest import Server, serve
from tests.reliability.every_request import KINDS, Clients, unasked
from tests.serve.conftest import Reference, write_adapter, write_bundle

AT_A_TIME = 6
GRPC = "gRPC (Open Inference Protocol) on "
GROWTH = {1_500: 0.05, 20_000: 0.02}
"""Requests in all, and the share by which memory may grow after the first tenth of them."""
IDLE_SECONDS = 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("every")
    classifiers = write_bundle(folder / "classifiers", reference, ["tone", "match", "grade"])
    writers = write_byte_bundle(folder / "writers", HERMES)
    write_adapter(folder / "adapters" / "intent", reference, "intent")
    flags = ("--adapter-dir", folder / "adapters", "--slots", 6, "--grpc-port", 0, "--keep-alive-secs", IDLE_SECONDS)
    with serve(classifiers, writers, "--no-cache", "--payload-limit", 100_000, *flags) as server:
        yield server
    assert server.process.returncode == 0
    assert not [line for line in server.log if "Traceback" in line], "\n".join(server.log[-60:])


def grpc_address_of(server: Server) -> str:
    """Return the address over gRPC, which is logged after that over HTTP."""
    end = time.monotonic() + 10
    while not (found := [line.partition(GRPC)[2] for line in server.log if GRPC in line]):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found[0]


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


def process_file(server: Server, name: str) -> Path:
    return Path(f"/proc/{server.process.pid}/{name}")


def counted(server: Server) -> dict[str, int]:
    """Return the numbers of a server's threads, of its sockets and of its other open files, and its memory in kB."""
    targets = []
    for file in process_file(server, "fd").iterdir():
        try:
            targets.append(str(file.readlink()))
        except FileNotFoundError:
            continue
    sockets = sum(target.startswith("socket:") for target in targets)
    status = dict(line.split(":", 1) for line in process_file(server, "status").read_text().splitlines())
    return {
        "threads": int(status["Threads"]),
        "sockets": sockets,
        "files": len(targets) - sockets,
        "memory": int(status["VmRSS"].split()[0]),
    }


@pytest.mark.parametrize("count", [1_500, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_requests_of_every_kind_leave_nothing_over(
    count: int, server: Server, figure: Callable[[str], None]
) -> None:
    wrong = asyncio.run(ask_all(server, len(KINDS), lambda: None))
    assert not wrong, "\n".join(wrong)
    time.sleep(IDLE_SECONDS + 0.5)
    quiet, early = counted(server), {}
    started = time.monotonic()
    wrong = asyncio.run(ask_all(server, count, lambda: early.update(counted(server))))
    seconds = time.monotonic() - started
    late = counted(server)
    end = time.monotonic() + 20
    while any((after := counted(server))[name] > quiet[name] for name in ("threads", "sockets", "files")):
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
