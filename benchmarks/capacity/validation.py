"""The simulation of one replica held against a real server on one core, over HTTP, with an open loop of requests."""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.simulation import Replica, simulate
from benchmarks.capacity.traffic import Request, poisson, tenants_of
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.processes import Server, free_port, serving
from serve.bundle.reader import Bundle

TENANTS = 96
SLOTS, MOST = 16, 48
LOADS = (0.3, 0.5, 0.7)
"""Rates, as shares of what the simulation says that one core completes."""
SECONDS, WARM_UP = 6.0, 2.0
PATIENCE = 600
"""Seconds for which the server may let requests wait: it refuses none, as the simulation."""
SEQUENTIAL = 60
"""Requests one after another that tell what HTTP adds to a run."""
END = b"\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Measured and simulated figures at one load; times in seconds."""

    offered: float
    measured: tuple[float, float, float]
    """p50, p99, results a second."""
    simulated: tuple[float, float, float]


def one_core_server(bank: Bundle, folder: Path, cache: Path) -> AbstractContextManager[Server]:
    """Run a server on one core, which loads the adapters below `folder` on first use, until the block ends."""
    port = free_port()
    core = str(max(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, "-m", "serve.cli", str(bank.folder), "--provider", "cpu"]
    options = {
        "threads": 1,
        "slots": SLOTS,
        "max-lookup-adapters": MOST,
        "max-queue-secs": PATIENCE,
        "adapter-dir": folder,
        "cache": cache,
        "port": port,
    }
    flags = [word for name, one in options.items() for word in (f"--{name}", str(one))]
    name = next(folder.iterdir()).name
    return serving([*command, "--adapter-lookup", *flags], port, {"inputs": "a text", "adapter": name})


def request_seconds(server: Server, costs: Costs, name: str, text: str, tokens: int) -> float:
    """Return what a request takes beyond its run, the median of some that come one after another."""
    took = asyncio.run(_sequential(server.url, _body(name, text)))
    return max(0.0, statistics.median(took) - costs.batch([tokens], width=8, slot_writes=0))


def compare(
    server: Server, costs: Costs, *, texts: Sequence[str], lengths: Sequence[int], names: Sequence[str]
) -> list[Compared]:
    """Return both figures at each load.

    Args:
        server: A server on one core.
        costs: Costs of its work.
        texts: Texts to classify.
        lengths: Number of tokens of each.
        names: Names of the tenants' adapters.
    """
    tenants = tenants_of(TENANTS)
    mean = costs.batch([round(statistics.mean(lengths))], width=8, slot_writes=0)
    by_length = dict(zip(lengths, texts, strict=True))
    found = []
    for number, load in enumerate(LOADS):
        requests = poisson(tenants, load / mean, SECONDS, lengths, seed=number)
        warming = poisson(tenants, load / mean, SECONDS, lengths, seed=len(LOADS) + number)
        replica = Replica(slots=SLOTS, most=MOST)
        everything = warming + [Request(one.time + SECONDS, one.tenant, one.tokens) for one in requests]
        outcome = simulate(
            everything, [replica], lambda request, replicas: 0, costs, tenants, warm_up=SECONDS + WARM_UP
        )
        bodies = [_body(names[one.tenant], by_length[one.tokens]) for one in everything]
        times = [one.time for one in everything]
        took, rate = asyncio.run(_open_loop(server.url, times, bodies, SECONDS + WARM_UP))
        measured = (float(np.quantile(took, 0.5)), float(np.quantile(took, 0.99)), rate)
        simulated = (outcome.p50, outcome.p99, outcome.rate)
        found.append(Compared(offered=load / mean, measured=measured, simulated=simulated))
    return found


def _body(name: str, text: str) -> bytes:
    return json.dumps({"inputs": text, "adapter": name}).encode()


async def _sequential(url: str, body: bytes) -> list[float]:
    connection = await _connect(url)
    return [await _send(url, connection, body) for _ in range(SEQUENTIAL)]


async def _open_loop(
    url: str, times: Sequence[float], bodies: Sequence[bytes], warm_up: float
) -> tuple[list[float], float]:
    """Send requests at their times, each over a connection that is free; return seconds after warm-up, and the rate."""
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    start, ends, took = time.perf_counter(), [], []

    async def one(due: float, body: bytes) -> None:
        connection = free.pop() if free else await _connect(url)
        await _send(url, connection, body)
        free.append(connection)
        end = time.perf_counter() - start
        if due >= warm_up:
            took.append(end - due)
        ends.append(end)

    async with asyncio.TaskGroup() as group:
        for due, body in zip(times, bodies, strict=True):
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - start)))
            group.create_task(one(due, body))
    for _, writer in free:
        writer.close()
    last = times[-1]
    return took, sum(warm_up <= end <= last for end in ends) / (last - warm_up)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)


async def _send(url: str, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes) -> float:
    reader, writer = connection
    start = time.perf_counter()
    head = f"POST {urlsplit(url).path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(END)).lower()
    content = await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    if b" 200 " not in answer[:16]:
        raise BenchmarkError(f"the server answered {content[:200]!r}")
    return time.perf_counter() - start
