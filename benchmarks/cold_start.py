"""Seconds from the command to the first response: adamix-serve on a new bundle, and on one whose graph is cached.

A start is a process of its own: imports, hashes, the session, canary rows, the port, one request. The bundles are
MiniLM's: merged, and a bank of eight adapters, in fp32 and int8. LitServe over optimum's O2 graph of the same model is
started the same way; it checks nothing.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import HERE, PEERS
from benchmarks.support.bundles import exported, in_int8, like, merged_model, trained
from benchmarks.support.errors import PeerError
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.processes import free_port, serving
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Timing
from benchmarks.support.server_sides import LITSERVE, optimum_graph

ROUNDS = 5
ADAPTERS = 8
TEXT = "It never arrived."
FIRST, AGAIN = 3.0, 1.5
"""Seconds: the goals."""
PACKAGES = ("fastapi", "uvicorn", "onnxruntime", "tokenizers")


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cold_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="starts of each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one start of each")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    command = "python -m benchmarks.cold_start " + " ".join(sys.argv[1:] if argv is None else argv)
    publish("cold_start", command.strip(), lambda: measure_starts(1 if args.quick else args.rounds), json_to=args.json)


def measure_starts(rounds: int) -> Findings:
    """Start everything in turns."""
    absent = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source = trained("lora", scratch / "run")
        bank = exported([source], "bank", scratch / "bank")
        adapters = like(bank, ADAPTERS, scratch / "adapters")
        beside = [word for adapter in adapters for word in ("--adapter", str(adapter))]
        in_int8(exported([source], "merged", scratch / "merged"), scratch / "int8")
        ours: dict[str, tuple[Path, list[str]]] = {
            "merged": (scratch / "merged", []),
            "merged int8": (scratch / "int8", []),
            f"bank of {1 + ADAPTERS}": (scratch / "bank", beside),
        }
        timings: dict[str, Timing] = {}
        peer: list[str] = []
        try:
            PEERS[LITSERVE].require()
            model = merged_model(source, scratch / "model")
            script = [str(PEERS[LITSERVE].python), "-I", str(HERE / "litserve_server.py")]
            peer = [*script, str(optimum_graph(model)), str(bank.tokenizer)]
        except PeerError as error:
            absent.append(Absent(peer=LITSERVE, reason=str(error)))
        with progress_bar(total=rounds * (2 * len(ours) + bool(peer)), desc="starting", unit="start") as bar:
            for _ in range(rounds):
                for name, (bundle, words) in ours.items():
                    fresh = scratch / "fresh"
                    shutil.copytree(bundle, fresh / "bundle")
                    body = {"inputs": TEXT, "adapter": bank_name(name, source.name)}
                    for state in ("first", "again"):
                        seconds = start(_ours(fresh / "bundle", words, cache=fresh / "cache"), body)
                        timings.setdefault(f"{name}, {state}", Timing()).turns.append(seconds)
                        bar.update()
                    shutil.rmtree(fresh)
                if peer:
                    seconds = start(lambda port: [*peer, str(port)], {"input": TEXT})
                    timings.setdefault(LITSERVE, Timing()).turns.append(seconds)
                    bar.update()
    return findings_of(timings, absent)


def bank_name(name: str, only: str) -> str:
    """Return the adapter that is asked: in a bank the last that was added."""
    return f"a{ADAPTERS - 1}" if name.startswith("bank") else only


def start(command: Callable[[int], list[str]], body: Any) -> float:
    """Return the seconds from starting a server to its first response; `command` takes the port."""
    port = free_port()
    with serving(command(port), port, body) as server:
        return server.seconds


def findings_of(timings: dict[str, Timing], absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals, of the slowest of our bundles."""
    slowest = {
        state: max((timing.seconds, name) for name, timing in timings.items() if name.endswith(state))
        for state in ("first", "again")
    }
    return Findings(
        goals=[
            Goal(what=f"seconds to the first response, {name}", value=seconds, goal=goal, better="lower")
            for (seconds, name), goal in zip(slowest.values(), (FIRST, AGAIN), strict=True)
        ],
        rows=[{"server": name, "seconds": timing.seconds, "noise": timing.noise} for name, timing in timings.items()],
        versions=versions_of(PACKAGES) | (PEERS[LITSERVE].versions() if LITSERVE in timings else {}),
        worst=f"{slowest['again'][0] / timings[LITSERVE].seconds:.3f} of LitServe's start"
        if LITSERVE in timings
        else "no peer",
        absent=absent,
    )


def _ours(bundle: Path, words: list[str], *, cache: Path) -> Callable[[int], list[str]]:
    command = [sys.executable, "-m", "serve.cli", str(bundle), "--provider", "cpu", "--cache", str(cache), *words]
    return lambda port: [*command, "--port", str(port)]


if __name__ == "__main__":
    main()
