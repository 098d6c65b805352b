"""Servers over loopback HTTP, in closed loops of 1, 8 and 64 clients: adamix-serve against LitServe and infinity-emb.

adamix-serve has a bank of eight adapters, and each request is a sentence of SST-2 for one of them. The others have
optimum's O2 graph of one of them, merged, and get the same sentences: LitServe with its own batching (32 texts or
5 ms), infinity-emb with its optimum engine at its defaults. All are fp32. Each turn sends the same requests to one
server while the others are stopped; clients are a process of their own. The engine by itself has as many streams as
the server's.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import last_line, versions_with
from benchmarks.support.bundles import exported, like, merged_model, sentences, trained
from benchmarks.support.classifier_sides import OURS
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import publish
from benchmarks.support.processes import Server
from benchmarks.support.report import Absent, Findings, Goal, Row
from benchmarks.support.server_sides import SIDES, Files, open_servers
from serve.bundle.reader import Bundle, with_adapters
from serve.classification.classifier import Classifier
from serve.runtime.providers import usable_cores

CLIENTS = (1, 8, 64)
REQUESTS = {1: 150, 8: 400, 64: 1000}
"""Requests of a turn, by the number of clients."""
ADAPTERS = 8
ROUNDS = 5
PACKAGES = ("fastapi", "uvicorn", "uvloop", "onnxruntime")
ABSENT = (Absent(peer="MLServer", reason="it has no ONNX runtime of its own for classifiers: not tried"),)


@dataclass
class Turns:
    """Rates and latencies of a server with a number of clients."""

    rates: list[float] = field(default_factory=list)
    """Requests a second."""
    latencies: list[list[float]] = field(default_factory=list)
    """Seconds, of each turn's requests."""

    @property
    def rate(self) -> float:
        """Median over the turns."""
        return statistics.median(self.rates)

    def percentile(self, percent: int) -> float:
        """Return seconds: the median over the turns of a percentile of each."""
        return statistics.median(statistics.quantiles(turn, n=100)[percent - 1] for turn in self.latencies)


Measured = dict[tuple[str, int], Turns]
"""Turns by server and number of clients."""


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each server (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one turn of each")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    command = "python -m benchmarks.server " + " ".join(sys.argv[1:] if argv is None else argv)
    publish("server", command.strip(), lambda: compare_servers(1 if args.quick else args.rounds), json_to=args.json)


def compare_servers(rounds: int) -> Findings:
    """Start the servers, send them requests in turns, and measure the engine without one."""
    texts = sentences(max(REQUESTS.values()))
    names = [f"a{index % ADAPTERS}" for index in range(len(texts))]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        scratch = Path(folder)
        source = trained("lora", scratch / "run")
        bank = exported([source], "bank", scratch / "bank")
        files = Files(
            bank=bank,
            adapters=like(bank, ADAPTERS, scratch / "adapters"),
            model=merged_model(source, scratch / "merged"),
            cache=scratch / "cache",
        )
        servers, absent = open_servers(files, running)
        if OURS not in servers:
            raise BenchmarkError(absent[0].reason)
        bodies = {name: [SIDES[name].body(*pair) for pair in zip(texts, names, strict=True)] for name in servers}
        engine = Engine(with_adapters(bank, files.adapters), texts, names)
        measured = take_turns(servers, bodies, rounds, scratch, engine)
    return findings_of(measured, engine, [*ABSENT, *absent])


class Engine:
    """The engine in this process, without a server: what the server's figures are held against."""

    def __init__(self, bundle: Bundle, texts: Sequence[str], names: Sequence[str]) -> None:
        adapters = {name: bundle.adapters[name] for name in dict.fromkeys(names)}
        self.classifier = Classifier(replace(bundle, adapters=adapters), provider="cpu", streams=usable_cores())
        self.texts, self.names = texts, names
        self.rates: list[float] = []
        self.alone: list[float] = []

    def turn(self) -> None:
        """Answer all texts at once, and some one by one."""
        start = time.perf_counter()
        self.classifier(self.texts, adapter=self.names)
        self.rates.append(len(self.texts) / (time.perf_counter() - start))
        latencies = []
        for text, name in list(zip(self.texts, self.names, strict=True))[: REQUESTS[1]]:
            start = time.perf_counter()
            self.classifier(text, adapter=name)
            latencies.append(time.perf_counter() - start)
        self.alone.append(statistics.median(latencies))


def take_turns(
    servers: dict[str, Server], bodies: dict[str, list[Any]], rounds: int, scratch: Path, engine: Engine
) -> Measured:
    """Give every server a turn with every number of clients in each round, another server first each time."""
    measured: Measured = {}
    for server in servers.values():
        server.pause()
    with progress_bar(total=rounds * (len(servers) * len(CLIENTS) + 1), desc="measuring", unit="turn") as bar:
        for number in range(rounds):
            engine.turn()
            bar.update()
            names = list(servers)
            for clients in CLIENTS:
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    servers[name].resume()
                    url, file = servers[name].url, scratch / "bodies.json"
                    found = load(url, clients, bodies[name][: REQUESTS[clients]], file)
                    servers[name].pause()
                    turns = measured.setdefault((name, clients), Turns())
                    turns.rates.append(REQUESTS[clients] / found["seconds"])
                    turns.latencies.append(found["latencies"])
                    bar.update()
    return measured


def load(url: str, clients: int, bodies: list[Any], file: Path) -> dict[str, Any]:
    """Return the figures of the load client."""
    file.write_text(json.dumps(bodies))
    command = [sys.executable, "-m", "benchmarks.support.load_client", url, str(clients), str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(f"{clients} clients failed: {last_line(result.stderr)}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def findings_of(measured: Measured, engine: Engine, absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals."""
    many, alone = measured[OURS, CLIENTS[-1]], measured[OURS, 1]
    offline, single = statistics.median(engine.rates), statistics.median(engine.alone)
    ratios = {key: measured[OURS, key[1]].rate / turns.rate for key, turns in measured.items() if key[0] != OURS}
    worst = min(ratios, key=lambda key: ratios[key], default=None)
    return Findings(
        goals=[
            Goal(what="throughput at 64 clients by that of the engine offline", value=many.rate / offline, goal=0.9),
            *(
                Goal(
                    what=f"throughput at {clients} client{'s' * (clients > 1)} by that of {name} over optimum's O2",
                    value=ratios.get((name, clients)),
                    goal=goal,
                )
                for name, side in SIDES.items()
                for clients, goal in side.goals.items()
            ),
            Goal(
                what="milliseconds over the engine at one client, medians",
                value=(alone.percentile(50) - single) * 1e3,
                goal=1.5,
                better="lower",
            ),
            Goal(
                what="p99 by p50 at 64 clients",
                value=many.percentile(99) / many.percentile(50),
                goal=3.0,
                better="lower",
            ),
        ],
        rows=[
            *(_row(*key, turns, ratios.get(key, "")) for key, turns in measured.items()),
            {
                "server": "engine offline",
                "clients": "",
                "requests_per_second": offline,
                "p50_ms": single * 1e3,
                "p99_ms": "",
                "ours_by_it": many.rate / offline,
            },
        ],
        versions=versions_with(PACKAGES, (server for server, _ in ratios)),
        worst=f"{ratios[worst]:.3f} at {worst[1]} clients against {worst[0]}" if worst else "no peer was there",
        absent=absent,
    )


def _row(server: str, clients: int, turns: Turns, ratio: float | str) -> Row:
    return {
        "server": server,
        "clients": clients,
        "requests_per_second": turns.rate,
        "p50_ms": turns.percentile(50) * 1e3,
        "p99_ms": turns.percentile(99) * 1e3,
        "ours_by_it": ratio,
    }


if __name__ == "__main__":
    main()
