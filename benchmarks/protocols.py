"""The time of the protocols: adamix-serve's own with an engine that answers at once.

Clients in closed loops, in a process of their own, send the same request again and again over loopback. The figure is
the processor time that the server takes for a request, which another process on the machine disturbs little; rates are
those of the same turns. A stream has 256 events, a token each.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import last_line
from benchmarks.server import load
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.instant_engine import CLASSIFIER, WRITER
from benchmarks.support.machine import versions_of
from benchmarks.support.processes import free_port, serving
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace

ROUNDS = 7
TEXT = "the delivery was late again and nobody answered the telephone"
EVENTS = 256
GRPC = "gRPC ModelInfer"
PACKAGES = ("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools", "grpcio", "protobuf")


@dataclass(frozen=True)
class Case:
    """A request and the clients that send it."""

    path: str
    """Path of the HTTP route; empty for gRPC."""
    body: Any
    clients: int = 8
    requests: int = 2000
    """Requests of a turn."""


TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
PREDICT = {"inputs": TEXT, "adapter": CLASSIFIER}
COMPLETION = {"model": WRITER, "prompt": TEXT, "max_tokens": 16}
CHAT = {"model": WRITER, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 16}
CASES: dict[str, Case] = {
    "/predict": Case("/predict", PREDICT),
    "/classify": Case("/classify", {"input": TEXT, "model": CLASSIFIER}),
    "/v1/completions": Case("/v1/completions", COMPLETION),
    "/v1/chat/completions": Case("/v1/chat/completions", CHAT),
    "stream": Case("/v1/completions", {**COMPLETION, "max_tokens": EVENTS, "stream": True}, requests=80),
    "/predict, 64 clients": Case("/predict", PREDICT, clients=64),
    "/v2 infer, 64 clients": Case(f"/v2/models/{CLASSIFIER}/infer", {"inputs": [TENSOR]}, clients=64),
    f"{GRPC}, 64 clients": Case("", TEXT, clients=64),
}
"""Cases by name; one more is an entry here."""


@dataclass
class Turns:
    """Figures of a case, one a turn."""

    busy: list[float] = field(default_factory=list)
    """Processor seconds of the server a request."""
    rates: list[float] = field(default_factory=list)
    """Requests a second."""
    latencies: list[float] = field(default_factory=list)
    """Median seconds of a request."""


def measure(pace: Pace) -> Findings:
    """Start the server and send it every case in turns."""
    turns = {name: Turns() for name in CASES}
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "benchmarks.support.instant_engine", str(port), str(grpc_port)]
    with tempfile.TemporaryDirectory() as folder, serving(command, port, PREDICT) as server:
        send = sender(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", Path(folder) / "bodies.json")
        for case in CASES.values():
            send(case)  # not timed
        with progress_bar(total=pace.rounds * len(CASES), desc="measuring", unit="turn") as bar:
            for number in range(pace.rounds):
                names = list(CASES)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    pace.sleep(pace.rest_seconds)
                    before = busy_seconds(server.group)
                    found = send(CASES[name])
                    turns[name].busy.append((busy_seconds(server.group) - before) / CASES[name].requests)
                    turns[name].rates.append(CASES[name].requests / found["seconds"])
                    turns[name].latencies.append(statistics.median(found["latencies"]))
                    bar.update()
    return findings_of(turns)


def sender(url: str, grpc_address: str, file: Path) -> Callable[[Case], dict[str, Any]]:
    """Return a function that sends the requests of a case and returns what its clients have measured."""

    def send(case: Case) -> dict[str, Any]:
        if case.path:
            return load(url + case.path, case.clients, [case.body] * case.requests, file)
        arguments = (grpc_address, str(case.clients), str(case.requests), CLASSIFIER, case.body)
        command = [sys.executable, "-m", "benchmarks.support.grpc_client", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise BenchmarkError(f"{case.clients} clients failed: {last_line(result.stderr)}")
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return send


def busy_seconds(process: int) -> float:
    """Return the processor seconds that a process has taken so far, in all of its threads."""
    return time.clock_gettime(~process << 3 | 2)  # the clock of another process, as clock_getcpuclockid(3) gives it


def findings_of(turns: dict[str, Turns]) -> Findings:
    """Return the table and the goals."""
    busy = {name: statistics.median(one.busy) * 1e3 for name, one in turns.items()}
    rates = {name: statistics.median(one.rates) for name, one in turns.items()}
    infer, predict = (rates[f"{GRPC}, 64 clients"] / rates[f"{name}, 64 clients"] for name in ("/v2 infer", "/predict"))
    return Findings(
        goals=[
            _goal("milliseconds of a core, /predict", busy["/predict"], 0.35),
            _goal("milliseconds of a core, /v1/completions", busy["/v1/completions"], 0.5),
            _goal("microseconds of a core, an event of a stream", busy["stream"] / EVENTS * 1e3, 40.0),
            Goal(what="rate over gRPC by that of the same protocol over HTTP, 64 clients", value=infer, goal=1.0),
            Goal(what="rate over gRPC by that of /predict, 64 clients", value=predict, goal=1.0),
        ],
        rows=[_row(name, one) for name, one in turns.items()],
        versions=versions_of(PACKAGES),
        worst=f"{predict:.3f} over gRPC against /predict",
    )


def _goal(what: str, value: float, goal: float) -> Goal:
    return Goal(what=what, value=value, goal=goal, better="lower")


def _row(name: str, turns: Turns) -> Row:
    busy = sorted(turns.busy)
    return {
        "case": name,
        "server_ms": statistics.median(busy) * 1e3,
        "noise": (busy[-1] - busy[0]) / statistics.median(busy),
        "requests_per_second": statistics.median(turns.rates),
        "p50_ms": statistics.median(turns.latencies) * 1e3,
    }


BENCHMARK = Benchmark(name="protocols", claim=__doc__ or "", measure=measure, rounds=ROUNDS)

if __name__ == "__main__":
    main(BENCHMARK)
