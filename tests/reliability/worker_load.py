"""Clients of a server with several workers: each asks again when it is answered, and takes down what became of it."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

TEXTS = ("good", "bad", "late", "the bill is late", "very good")
ADAPTERS = ("tone", "intent")
DEADLINE_SECONDS = 20.0
"""Time in which a request has to have an outcome."""
ANSWERED = 'adamix_requests_total{code="200",method="POST"}'
OK, REFUSED, CLOSED, WRONG, LATE = "200", "5xx", "closed", "wrong", "late"


PAUSE_SECONDS = 0.005
"""Time between two requests of a client: what is tried is not the most that two cores can do."""
Expected = dict[tuple[str, str], list[dict[str, Any]]]


def question(number: int) -> tuple[str, str]:
    """Return the text and the adapter of a client's request."""
    return TEXTS[number % len(TEXTS)], ADAPTERS[number % len(ADAPTERS)]


def expected_answers(address: str) -> Expected:
    """Ask each question once."""
    pairs = {question(number) for number in range(len(TEXTS) * len(ADAPTERS))}
    return {
        (text, adapter): httpx.post(f"{address}/predict", json={"inputs": text, "adapter": adapter}, timeout=30).json()
        for text, adapter in pairs
    }


def agrees(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Return whether labels are the same, and scores but for what another batch makes of them."""
    scores = {one["label"]: one["score"] for one in expected}
    return {one["label"] for one in found} == set(scores) and all(
        abs(one["score"] - scores[one["label"]]) < 1e-4 for one in found
    )


@dataclass
class Load:
    """Outcomes of requests."""

    address: str
    expected: Expected
    counted_before: float
    """Answers in the metrics before the first of these requests."""
    clients: int = 8
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Seconds of each request that was answered with 200."""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> int:
        """Requests that have an outcome."""
        return sum(self.outcomes.values())

    async def ask(self) -> None:
        """Ask until `stop` is set."""
        await asyncio.gather(*(self._client(number) for number in range(self.clients)))

    async def _client(self, number: int) -> None:
        place = urlsplit(self.address)
        while not self.stop.is_set():
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(place.hostname, place.port), 10)
            except (OSError, TimeoutError):
                self.outcomes[CLOSED] += 1
                await asyncio.sleep(0.05)
                continue
            keeps = True
            while keeps and not self.stop.is_set():
                number += 1
                started = time.monotonic()
                try:
                    outcome, keeps = await asyncio.wait_for(self._ask(reader, writer, number), DEADLINE_SECONDS)
                except TimeoutError:
                    outcome, keeps = LATE, False
                except (OSError, asyncio.IncompleteReadError):
                    outcome, keeps = CLOSED, False
                self.outcomes[outcome] += 1
                if outcome == OK:
                    self.seconds.append(time.monotonic() - started)
                if keeps:
                    await asyncio.sleep(PAUSE_SECONDS)
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> tuple[str, bool]:
        """Return the outcome of a request, and whether the connection takes another."""
        text, adapter = question(number)
        body = json.dumps({"inputs": text, "adapter": adapter}).encode()
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        status, keeps = int(answer.split()[1]), b"connection: close" not in answer
        if status != 200:
            return (REFUSED if status >= 500 else WRONG), keeps
        return (OK if agrees(json.loads(content), self.expected[text, adapter]) else WRONG), keeps


@contextmanager
def under_load(address: str) -> Iterator[Load]:
    """Have clients ask until the block ends."""
    expected = expected_answers(address)
    load = Load(address, expected, metric(address, ANSWERED))
    thread = threading.Thread(target=lambda: asyncio.run(load.ask()), daemon=True)
    thread.start()
    try:
        while load.sent < 3 * load.clients:
            time.sleep(0.01)
        yield load
    finally:
        load.stop.set()
        thread.join(2 * DEADLINE_SECONDS)


def children(process: int) -> list[int]:
    """Return the process ids of the workers of a supervisor."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def metric(address: str, series: str) -> float:
    """Return the value of a series in the metrics of all workers; 0 if there is none."""
    lines = httpx.get(f"{address}/metrics", timeout=30).text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{series} ")), 0.0)


def wait_for_workers(address: str, count: int, *, supervisor: int, without: int = 0, seconds: float = 60) -> float:
    """Wait until so many workers are ready, and none of them is the process `without`; return the seconds."""
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        try:
            if without not in children(supervisor) and metric(address, "adamix_workers") == count:
                return elapsed
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"there are not {count} workers after {seconds} s")


def wait_for(true: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
