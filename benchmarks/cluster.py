"""The price of Ray Serve: the same two engines behind one port of adamix-serve, and behind Ray's proxy.

Closed loops over loopback HTTP, one sentence of SST-2 a request, a bank of eight LoRA adapters and MiniLM in fp32. Each
side has two threads for its engines: one process with both, two workers, or two replicas with one each. Of every side
also the processor time that all of its processes take for a request, which other programs on the machine change little.
Sides take their turns one after another, and each is stopped before the next one starts.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.support.bundles import exported, like, sentences, trained
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.processes import free_port, processor_seconds, serving
from benchmarks.support.report import Findings
from benchmarks.support.rounds import Pace

ADAPTERS = 8
CLIENTS = (1, 8)
REQUESTS = {1: 150, 8: 400}
"""Requests of a turn by clients."""
WARM_UP = 80
STARTUP = 180.0
RAY = ("deploy", "--ray", "local", "--min-replicas", "2", "--max-replicas", "2", "--threads", "1")
SIDES: dict[str, Sequence[str]] = {
    "one process": ("--threads", "2"),
    "two workers": ("--workers", "2"),
    "ray, header": (*RAY, "--route-by", "header"),
    "ray, body": (*RAY, "--route-by", "body"),
}
"""Words of the command line by side."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A turn of a side: seconds of each request, results a second, and processor seconds a request."""

    latencies: Sequence[float]
    rate: float
    processor: float


def compare(pace: Pace) -> Findings:
    """Measure every side in turn."""
    turns: dict[tuple[str, int], list[Turn]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        bank = exported([trained("lora", scratch / "run", epochs=1, train_limit=64)], "bank", scratch / "bank")
        names = [one.name for one in like(bank, ADAPTERS, scratch / "adapters")]
        bodies = [
            {"inputs": text, "adapter": names[number % ADAPTERS], "truncate": True}
            for number, text in enumerate(sentences(max(REQUESTS.values())))
        ]
        for _ in range(pace.rounds):
            for name, words in SIDES.items():
                command = [str(scratch / "bank"), "--adapter-dir", str(scratch / "adapters"), "--adapter-lookup"]
                with _serving(
                    [*words, *command, "--provider", "cpu", "--cache", str(scratch / "cache")], bodies[0]
                ) as (
                    url,
                    pid,
                ):
                    _turn(url, pid, 4, bodies[:WARM_UP], scratch)
                    for clients in CLIENTS:
                        found = _turn(url, pid, clients, bodies[: REQUESTS[clients]], scratch)
                        turns.setdefault((name, clients), []).append(found)
    return _findings(turns)


@contextmanager
def _serving(words: Sequence[str], body: object) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [sys.executable, "-m", "serve.cli", *words, "--port", str(port)]
    with serving(command, port, body, startup=STARTUP) as server:
        yield server.url, server.group


def _turn(url: str, pid: int, clients: int, bodies: Sequence[object], scratch: Path) -> Turn:
    file = scratch / "bodies.json"
    file.write_text(json.dumps(bodies))
    before = processor_seconds(pid)
    command = [sys.executable, "-m", "benchmarks.support.load_client", url, str(clients), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"the client of {url} failed: {done.stderr[-500:]}")
    found = json.loads(done.stdout)
    time.sleep(0.2)  # the last answer's process ends its work
    spent = processor_seconds(pid) - before
    return Turn(latencies=found["latencies"], rate=len(bodies) / found["seconds"], processor=spent / len(bodies))


def _findings(turns: dict[tuple[str, int], list[Turn]]) -> Findings:
    rows = [
        {
            "side": name,
            "clients": clients,
            "requests_s": float(np.median([one.rate for one in found])),
            "p50_ms": float(np.median([np.median(one.latencies) for one in found])) * 1e3,
            "p99_ms": float(np.median([np.quantile(one.latencies, 0.99) for one in found])) * 1e3,
            "processor_ms": float(np.median([one.processor for one in found])) * 1e3,
        }
        for (name, clients), found in turns.items()
    ]
    by_side = {(row["side"], row["clients"]): row for row in rows}
    ratio = by_side["ray, body", 1]["processor_ms"] / by_side["one process", 1]["processor_ms"]  # type: ignore[operator]
    return Findings(
        goals=[],
        rows=rows,
        versions=versions_of(("ray", "fastapi", "uvicorn", "onnxruntime")),
        worst=f"{ratio:.2f} of one process's processor time a request (ray, body, one client)",
    )


if __name__ == "__main__":
    main(Benchmark(name="cluster", claim=str(__doc__), measure=compare, rounds=3))
