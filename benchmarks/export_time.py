"""The cost of an export: seconds and memory from the command to the checked bundle, and the bytes of an adapter.

Every side is a command of its own, started anew, its imports included. Ours reads a checkpoint, collapses it, writes
the bundle, runs it in ONNX Runtime against PyTorch on the demo's test data, and seals it; the peers read the same model
with the adapter merged, write their graph, and compare nothing. Memory is the process's peak; what the imports alone
take is measured as well and taken off before it is compared with the size of the base. The adapter's bytes are those of
a LoRA of rank 8 on query and value of a model of RoBERTa-large's shape, with its head, as it is stored.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.collapse import HEAD, AdapterTensors, collapse_checkpoint
from adamix_export.tracing.merged import merge, weights_to
from adamix_train.peft_method import AdaMixConfig
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from benchmarks.peers import HERE, PEERS, last_line
from benchmarks.support.errors import BenchmarkError, PeerError
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal, Row
from benchmarks.support.rounds import Timing
from demos.models import sample_model
from demos.tasks import DATA

OURS = "adamix"
ROUNDS = 3
MEMORY = 3.0
"""Most memory, by the size of the base in its export precision."""
ADAPTER_MB = 4.0
VERSIONS = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime")
MIB = 1 << 20
POLL = 0.05
"""Seconds between two looks at a process."""
LORA: dict[str, Any] = {"kind": "lora", "r": 8, "lora_alpha": 16.0, "num_modules": 4}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A base, what a run on it learns, and the peer that exports the same."""

    base: str
    recipe: dict[str, Any]
    seconds: float
    """The goal."""
    peer: str
    script: str


CASES = {
    "minilm": Case(base="minilm", recipe={}, seconds=25, peer="optimum", script="optimum_export.py"),
    "smollm2": Case(
        base="smollm2",
        recipe={"task": "generation", "text_column": "text", "label_column": "label", "max_new_tokens": 32},
        seconds=60,
        peer="genai",
        script="genai_export.py",
    ),
}


@dataclass(frozen=True)
class Cost:
    """Time and memory of the runs of a command."""

    timing: Timing = field(default_factory=Timing)
    peaks: list[float] = field(default_factory=list)
    """MiB, one a run."""

    @property
    def peak(self) -> float:
        """The highest, in MiB."""
        return max(self.peaks)


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", default=",".join(CASES), help="with commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each command (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="minilm only, once")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    cases = ["minilm"] if args.quick else args.cases.split(",")
    if unknown := [case for case in cases if case not in CASES]:
        parser.error(f"unknown case {unknown[0]!r}; known are {', '.join(CASES)}")
    rounds = 1 if args.quick else args.rounds
    if rounds < 1:
        parser.error("--rounds must be at least 1")
    command = "python -m benchmarks.export_time " + " ".join(sys.argv[1:] if argv is None else argv)
    publish("export_time", command.strip(), lambda: measure_exports(cases, rounds), json_to=args.json)


def measure_exports(cases: list[str], rounds: int) -> Findings:
    """Run all commands, interleaved, and weigh an adapter."""
    with tempfile.TemporaryDirectory() as scratch:
        commands, absent = prepare(cases, Path(scratch))
        imports = run([sys.executable, "-c", "import adamix_export.pipeline.export"], Path(scratch) / "log")[1]
        costs: dict[tuple[str, str], Cost] = {key: Cost() for key in commands}
        with progress_bar(total=rounds * len(commands), desc="exporting", unit="run") as bar:
            for _ in range(rounds):
                for key, command in commands.items():
                    out = Path(scratch) / "out"
                    seconds, peak = run(command(out), Path(scratch) / "log")
                    shutil.rmtree(out)
                    costs[key].timing.turns.append(seconds)
                    costs[key].peaks.append(peak)
                    bar.update()
        adapter = adapter_bytes(Path(scratch))
    return findings_of(cases, costs, imports, adapter, absent)


def prepare(cases: list[str], scratch: Path) -> tuple[dict[tuple[str, str], Callable[[Path], list[str]]], list[Absent]]:
    """Train a moment on each base; return each side's command, which takes the folder to write, and who is absent."""
    commands: dict[tuple[str, str], Callable[[Path], list[str]]] = {}
    absent = []
    for name in cases:
        case = CASES[name]
        checkpoint, merged = scratch / name, scratch / f"{name}-merged"
        train(Recipe(**{**_recipe(case), "out": str(checkpoint)}))
        commands[name, OURS] = _command(sys.executable, "-m", "adamix_export.cli", str(checkpoint))
        try:
            peer = PEERS[case.peer]
            peer.require()
        except PeerError as error:
            absent.append(Absent(peer=case.peer, reason=str(error)))
            continue
        source = open_checkpoint(str(checkpoint))
        merge(source.base_model(), source.adapter).save_pretrained(merged)
        source.tokenizer.save_pretrained(merged)
        commands[name, case.peer] = _command(str(peer.python), "-I", str(HERE / case.script), str(merged))
    return commands, absent


def run(command: list[str], log: Path) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in MiB, or raise an error with its last line."""
    start, peak = time.perf_counter(), 0.0
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(process.pid))
            time.sleep(POLL)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command[:4])} … ended with {process.returncode}: {last_line(log.read_text())}")
    return seconds, peak


def adapter_bytes(scratch: Path) -> dict[str, int]:
    """Return the bytes of a stored adapter of RoBERTa-large's shape, and of its parts."""
    config = AutoConfig.for_model(
        "roberta",
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    mixture = AdaMixConfig(**{**LORA, "task_type": "SEQ_CLS"})
    with torch.device("meta"):
        model = peft.get_peft_model(AutoModelForSequenceClassification.from_config(config), mixture)
    shapes = peft.get_peft_model_state_dict(model)
    adapter = collapse_checkpoint({name: torch.zeros(value.shape) for name, value in shapes.items()}, mixture)
    parts = {
        "adapter with its head": adapter,
        "adapter alone": {name: weight for name, weight in adapter.items() if f".{HEAD}." not in name},
    }
    return {name: _stored(weights, scratch / "adapter.safetensors") for name, weights in parts.items()}


def findings_of(
    cases: list[str], costs: dict[tuple[str, str], Cost], imports: float, adapter: dict[str, int], absent: list[Absent]
) -> Findings:
    """Return the table and the goals."""
    whole, alone = adapter.values()
    ratios = list(_ratios(costs))
    goals = [
        *(
            Goal(
                what=f"{name}: seconds of an export",
                value=costs[name, OURS].timing.seconds,
                goal=CASES[name].seconds,
                better="lower",
            )
            for name in cases
        ),
        *(
            Goal(
                what=f"{name}: peak memory without that of the imports, by the size of the base",
                value=(costs[name, OURS].peak - imports) / _base_mib(name),
                goal=MEMORY,
                better="lower",
            )
            for name in cases
        ),
        Goal(
            what=f"MB of a LoRA adapter for RoBERTa-large with its head ({alone / 1e6:.2f} without)",
            value=whole / 1e6,
            goal=ADAPTER_MB,
            better="lower",
        ),
    ]
    packages = {
        name: found for case in cases if (case, CASES[case].peer) in costs for name, found in _peer_versions(case)
    }
    return Findings(
        goals=goals,
        rows=[_row(name, side, cost, imports) for (name, side), cost in costs.items()],
        versions=versions_of(VERSIONS) | packages,
        worst=max(ratios)[1] if ratios else "no peer was there",
        absent=absent,
    )


def _ratios(costs: dict[tuple[str, str], Cost]) -> Iterator[tuple[float, str]]:
    for (name, side), cost in costs.items():
        if side != OURS:
            ratio = costs[name, OURS].timing.seconds / cost.timing.seconds
            yield ratio, f"ours takes {ratio:.2f} times as long as {side} for {name}"


def _row(name: str, side: str, cost: Cost, imports: float) -> Row:
    base = _base_mib(name)
    return {
        "case": name,
        "side": side,
        "seconds": cost.timing.seconds,
        "noise": cost.timing.noise,
        "peak_mib": round(cost.peak),
        "imports_mib": round(imports) if side == OURS else "",
        "base_mib": round(base),
    }


def _high_water(process: int) -> float:
    """Return the most MiB that a process has held; what wait4 tells counts those of the process that forked it too."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _base_mib(name: str) -> float:
    """Return the size of a base in fp32."""
    return sum(4 * count for count in _parameters(sample_model(CASES[name].base))) / MIB


def _parameters(folder: Path) -> Iterator[int]:
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            yield from (torch.Size(weights.get_slice(key).get_shape()).numel() for key in list(weights.keys()))


def _peer_versions(case: str) -> list[tuple[str, str]]:
    return list(PEERS[CASES[case].peer].versions().items())


def _recipe(case: Case) -> dict[str, Any]:
    files = {key: str(DATA / "tone" / f"{name}.csv") for key, name in (("train_file", "train"), ("test_file", "test"))}
    common = {"train_limit": 32, "batch_size": 8, "epochs": 1, "max_length": 64, "report_to": "none"}
    return {"base": str(sample_model(case.base)), **files, **common, **LORA, **case.recipe}


def _command(*words: str) -> Callable[[Path], list[str]]:
    return lambda out: [*words, str(out)]


def _stored(weights: AdapterTensors, file: Path) -> int:
    save_file(weights_to(weights, torch.float32), file)
    return file.stat().st_size


if __name__ == "__main__":
    main()
