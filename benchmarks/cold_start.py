"""Seconds from the command to the first response, and memory: adamix-serve on a new bundle, and on a cached graph.

A start is a process of its own: imports, hashes, the session, canary rows, the port, one request. The bundles are
MiniLM's (merged in fp32 and int8, and a bank of eight adapters) and SmolLM2's (merged in fp32 and int4). LitServe over
optimum's O2 graph of the same MiniLM is started the same way; it checks nothing. Memory is what the process holds when
it has answered, and the most that it held until then, pages of mapped files included. Modules are compiled, as those of
an installed package are: a start that nobody times comes first.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import HERE, PEERS, versions_with
from benchmarks.support import generation_sides
from benchmarks.support.bundles import exported, in_int8, like, merged_model, trained
from benchmarks.support.errors import PeerError
from benchmarks.support.harness import publish
from benchmarks.support.processes import free_port, memory_of, serving
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Timing
from benchmarks.support.server_sides import LITSERVE, optimum_graph

ROUNDS = 5
ADAPTERS = 8
TEXT = "It never arrived."
FIRST, AGAIN = "first", "again"
"""A start on a bundle that was just copied, and the next one."""
GOALS = {("minilm", FIRST): 3.0, ("minilm", AGAIN): 1.0, ("smollm2", AGAIN): 3.0}
"""Goals in seconds, by base and start; the slowest bundle of a base counts."""
MEMORY = 1.3
"""Goal: the most memory by the size of the bundle, of the decoder in fp32, whose weights are most of it."""
LARGE = "smollm2 fp32"
WITHOUT = "--no-cache"
NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
PACKAGES = ("fastapi", "uvicorn", "onnxruntime", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A bundle that is started, and the request that it answers."""

    bundle: Path
    body: dict[str, Any]
    words: Sequence[str] = ()
    """Further words of the command."""
    path: str = "/predict"

    @property
    def size(self) -> int:
        """Bytes of the bundle's files."""
        return sum(file.stat().st_size for file in self.bundle.rglob("*") if file.is_file())


@dataclass(kw_only=True)
class Starts:
    """Starts of a kind: their seconds, and the bytes that the processes held."""

    size: int = 0
    """Bytes of the bundle; 0 for a peer."""
    timing: Timing = field(default_factory=Timing)
    peak: int = 0
    held: int = 0

    def add(self, seconds: float, peak: int, held: int) -> None:
        """Note one start."""
        self.timing.turns.append(seconds)
        self.peak, self.held = max(self.peak, peak), max(self.held, held)


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
        subjects = subjects_of(source, scratch)
        found: dict[str, Starts] = {}
        peer: list[str] = []
        try:
            PEERS[LITSERVE].require()
            model = merged_model(source, scratch / "model")
            script = [str(PEERS[LITSERVE].python), "-I", str(HERE / "litserve_server.py")]
            peer = [*script, str(optimum_graph(model)), str(scratch / "bank" / "tokenizer.json")]
        except PeerError as error:
            absent.append(Absent(peer=LITSERVE, reason=str(error)))
        first = next(iter(subjects.values()))
        start(_ours(first.bundle, first.words, cache=scratch / "unmeasured"), first.body, path=first.path)
        with progress_bar(total=rounds * (2 * len(subjects) + bool(peer)), desc="starting", unit="start") as bar:
            for _ in range(rounds):
                for name, subject in subjects.items():
                    fresh = scratch / "fresh"
                    shutil.copytree(subject.bundle, fresh / "bundle")
                    for state in (FIRST, AGAIN):
                        command = _ours(fresh / "bundle", subject.words, cache=fresh / "cache")
                        starts = found.setdefault(f"{name}, {state}", Starts(size=subject.size))
                        starts.add(*start(command, subject.body, path=subject.path))
                        bar.update()
                    shutil.rmtree(fresh)
                if peer:
                    found.setdefault(LITSERVE, Starts()).add(
                        *start(lambda port: [*peer, str(port)], {"input": TEXT}, path="/predict")
                    )
                    bar.update()
    return findings_of(found, absent)


def subjects_of(source: Any, scratch: Path) -> dict[str, Subject]:
    """Export what is started; the bank answers through the adapter that was added last."""
    merged, bank = (exported([source], shape, scratch / shape) for shape in ("merged", "bank"))
    beside = [word for adapter in like(bank, ADAPTERS, scratch / "adapters") for word in ("--adapter", str(adapter))]
    int8 = in_int8(merged, scratch / "int8")
    body = {"inputs": TEXT, "adapter": source.name}
    classifiers = {
        "minilm": Subject(bundle=merged.folder, body=body),
        "minilm int8": Subject(bundle=int8.folder, body=body),
        f"minilm bank of {1 + ADAPTERS}": Subject(
            bundle=bank.folder, body={**body, "adapter": f"a{ADAPTERS - 1}"}, words=beside
        ),
    }
    writer = generation_sides.trained_writer(scratch / "writer")
    asked = {"model": writer.name, "prompt": TEXT, "max_tokens": 1}
    writers = {
        f"{generation_sides.BASE} {precision}": Subject(
            bundle=generation_sides.exported(writer, precision, "merged", scratch / precision).folder,
            body=asked,
            path="/v1/completions",
        )
        for precision in ("fp32", "int4")
    }
    return classifiers | writers | {f"{LARGE} {WITHOUT}": replace(writers[LARGE], words=[WITHOUT])}


def start(command: Callable[[int], list[str]], body: Any, *, path: str) -> tuple[float, int, int]:
    """Start a server, which gets its port from `command`.

    Returns:
        Seconds to its first response, the most bytes of memory until then, and those that it holds.
    """
    port = free_port()
    compiling = {name: value for name, value in os.environ.items() if name != NO_BYTE_CODE}
    with serving(command(port), port, body, path=path, environment=compiling) as server:
        return server.seconds, *memory_of(server.group)


def findings_of(found: dict[str, Starts], absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals: of each base's slowest bundle, and of the largest bundle's memory."""
    goals = []
    for (base, state), goal in GOALS.items():
        seconds, name = max(
            (starts.timing.seconds, name)
            for name, starts in found.items()
            if name.startswith(base) and name.endswith(state)
        )
        goals.append(Goal(what=f"seconds to the first response, {name}", value=seconds, goal=goal, better="lower"))
    for state in (FIRST, AGAIN):
        starts = found[f"{LARGE}, {state}"]
        what = f"most memory by the size of the bundle, {LARGE}, {state}"
        goals.append(Goal(what=what, value=starts.peak / starts.size, goal=MEMORY, better="lower"))
    slowest = max(starts.timing.seconds for name, starts in found.items() if name.startswith("minilm"))
    return Findings(
        goals=goals,
        rows=[
            {
                "server": name,
                "seconds": starts.timing.seconds,
                "noise": starts.timing.noise,
                "bundle MB": round(starts.size / 1e6),
                "peak MB": round(starts.peak / 1e6),
                "held MB": round(starts.held / 1e6),
            }
            for name, starts in found.items()
        ],
        versions=versions_with(PACKAGES, found),
        worst=f"{slowest / found[LITSERVE].timing.seconds:.3f} of LitServe's start" if LITSERVE in found else "no peer",
        absent=absent,
    )


def _ours(bundle: Path, words: Sequence[str], *, cache: Path) -> Callable[[int], list[str]]:
    command = [sys.executable, "-m", "serve.cli", str(bundle), "--provider", "cpu", "--cache", str(cache), *words]
    return lambda port: [*command, "--port", str(port)]


if __name__ == "__main__":
    main()
