"""The costs and gains of a precision: the bytes of the graph, the task's metric and the engine's speed, against fp32.

Each checkpoint is exported by itself in every precision for what it has learned, compared with PyTorch on its own test
data, as every export is, and run by the engine on the inputs of that comparison, all precisions interleaved. The peer
is what ONNX Runtime's own tools make of our fp32 graph: `quantize_dynamic`, per channel, for classifiers, and
`MatMulNBitsQuantizer` with 4 bits for generators. No loss is refused: all are reported.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.parity.bounds import Bounds, Check
from adamix_export.parity.examples import parity_examples
from adamix_export.parity.report import PERPLEXITY, Parity
from adamix_export.pipeline.export import EXPORTS, UNBOUNDED
from adamix_export.pipeline.options import Options
from adamix_export.precision.table import PRECISIONS
from adamix_export.tasks.table import EXPORT_TASKS
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Call, Pace, Timing, measure
from serve import Classifier, Generator
from serve.bundle.reader import open_bundle, with_any_canaries
from serve.bundle.writer import write_manifest

EXACT, PEER = "fp32", "onnxruntime"
FOR_GPUS = ("fp16", "bf16", "int4-fp16")
"""Not measured unless asked for: CPUs compute them slowly, or not at all."""
ROUNDS = 7
CLASSIFICATION = "text-classification"
TEXTS = 64
"""Texts of a timed call to a classifier."""
PROMPTS = 4
"""Prompts of a timed call to a generator."""
NEW_TOKENS = 16
"""Tokens that are generated for each prompt."""
MIB = 1 << 20
VERSIONS = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime")
MOST_LOST = {PERPLEXITY: 0.03}
MOST_POINTS = 0.005
SPEED = 2.0
"""Goal: speed of int8 as a multiple of fp32's, for classifiers."""


@dataclass(frozen=True)
class Side:
    """One checkpoint in one precision."""

    bundle: Path
    parity: Parity
    mib: float
    """The size of the graph with its weights."""


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", metavar="[NAME=]CHECKPOINT", help="what adamix-train wrote")
    parser.add_argument("--precisions", help=f"with commas, of {', '.join(PRECISIONS)} (default: all for CPUs)")
    parser.add_argument("--limit", type=int, help="most rows compared with PyTorch (default: as many as an export)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each side (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    precisions = (
        args.precisions.split(",") if args.precisions else [name for name in PRECISIONS if name not in FOR_GPUS]
    )
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        parser.error(f"unknown precision {unknown[0]!r}; known are {', '.join(PRECISIONS)}")
    logging.getLogger("adamix_export").setLevel(logging.ERROR)
    command = "python -m benchmarks.precision " + " ".join(sys.argv[1:] if argv is None else argv)
    publish(
        "precision",
        command,
        lambda: compare_precisions(args.checkpoints, [EXACT, *precisions], args.limit, Pace(rounds=args.rounds)),
        json_to=args.json,
    )


def compare_precisions(
    checkpoints: Sequence[str], precisions: Sequence[str], limit: int | None, pace: Pace
) -> Findings:
    """Export every checkpoint in every precision that is for it, and time the engine on each."""
    sides: dict[str, dict[str, Side]] = {}
    work: dict[str, dict[str, Call]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for argument in checkpoints:
            source = open_checkpoint(argument)
            if source.name in sides:
                raise BenchmarkError(f"two checkpoints are called {source.name}: name them, NAME=FOLDER")
            fitting = [name for name in dict.fromkeys(precisions) if source.objective_name in PRECISIONS[name]]
            sides[source.name] = exports_of(source, fitting, limit, Path(scratch) / source.name)
            call = caller(source, limit)
            work[source.name] = {name: call(side.bundle) for name, side in sides[source.name].items()}
        timings = measure(work, pace)
    return findings_of(sides, timings)


def exports_of(source: Checkpoint, precisions: Sequence[str], limit: int | None, scratch: Path) -> dict[str, Side]:
    """Return a bundle a precision, and what ONNX Runtime's tools make of the exact one."""
    sides = {}
    check = Check(limit=limit)
    with progress_bar([*precisions, PEER], desc=f"exporting {source.name}", unit="graph") as bar:
        for name in bar:
            bar.set_postfix_str(name)
            out = scratch / name
            if name == PEER:
                report = _quantised_by_peer(source, scratch / EXACT, out, check)
            else:
                options = Options(check=check, precision=name, tolerance=UNBOUNDED, max_metric_drop=UNBOUNDED)
                (report,) = EXPORTS["merged"]([source], out, options, lambda stage: None).values()
            sides[name] = Side(out, report, sum(file.stat().st_size for file in out.glob("*.onnx*")) / MIB)
            source.forget_reference()
    return sides


def caller(source: Checkpoint, limit: int | None) -> Callable[[Path], Call]:
    """Return what makes the timed call of a bundle: the engine on texts of the comparison."""
    examples, _ = parity_examples(source, Check(limit=limit))
    if not examples:
        raise BenchmarkError(f"{source.name}: the test or validation file that it was trained with is not there")
    settings = {} if source.card.labels else {"max_new_tokens": NEW_TOKENS}
    rows = [example.texts for example in examples[: PROMPTS if settings else TEXTS]]
    texts = [row if len(row) > 1 else row[0] for row in rows]

    def call_of(folder: Path) -> Call:
        bundle = with_any_canaries(open_bundle(folder))  # what the peer made differs by more than ours may
        engine: Any = (Classifier if bundle.manifest.task == CLASSIFICATION else Generator)(bundle, provider="cpu")
        return lambda: engine(texts, **settings)

    return call_of


def findings_of(sides: dict[str, dict[str, Side]], timings: dict[str, dict[str, Timing]]) -> Findings:
    """Return the table and the goals."""
    goals = []
    speeds: list[tuple[float, str]] = []
    for run, own in sides.items():
        for name, side in own.items():
            speed = timings[run][EXACT].seconds / timings[run][name].seconds
            if name in (EXACT, PEER):
                continue
            lost = side.parity.metric_drop
            goals.append(
                Goal(
                    what=f"{run} in {name}: share of the {side.parity.metric} that is lost",
                    value=lost,
                    goal=MOST_LOST.get(side.parity.metric, MOST_POINTS),
                    better="lower",
                )
            )
            if name == "int8" and side.parity.metric != PERPLEXITY:
                goals.append(Goal(what=f"{run} in {name}: speed by that of fp32", value=speed, goal=SPEED))
            ratio = timings[run][PEER].seconds / timings[run][name].seconds
            speeds.append((ratio, f"{run} in {name} at {ratio:.3f} of the speed of ONNX Runtime's own quantised graph"))
    return Findings(
        goals=goals,
        rows=[_row(run, name, side, timings[run]) for run, own in sides.items() for name, side in own.items()],
        versions=versions_of(VERSIONS),
        worst=min(speeds)[1] if speeds else "only fp32 was measured",
    )


def _row(run: str, name: str, side: Side, timings: dict[str, Timing]) -> Row:
    parity = side.parity
    return {
        "checkpoint": run,
        "precision": name,
        "mib": side.mib,
        "rows": parity.rows,
        "metric": parity.metric,
        "pytorch": parity.pytorch,
        "onnx": parity.onnx,
        "lost": parity.metric_drop,
        "equal": parity.equal_labels,
        "logits": parity.max_difference,
        "ms": timings[name].seconds * 1e3,
        "speed": timings[EXACT].seconds / timings[name].seconds,
        "noise": timings[name].noise,
    }


def _quantised_by_peer(source: Checkpoint, exact: Path, out: Path, check: Check) -> Parity:
    """Write the exact bundle with its graph quantised by ONNX Runtime's tools, and return its comparison."""
    shutil.copytree(exact, out)
    for file in out.glob("*.onnx*"):
        file.unlink()
    for file in exact.glob("*.onnx"):
        (_to_four_bits if not source.card.labels else _to_eight_bits)(file, out / file.name)
    manifest = open_bundle(exact).manifest
    write_manifest(out, manifest)
    task = EXPORT_TASKS[source.objective_name]
    bounds = Bounds(tolerance=UNBOUNDED, min_agreement=0.0)
    return task.compare(
        [source],
        with_any_canaries(open_bundle(out)),
        replace(check, limit=check.limit or task.default_limit, bounds=bounds),
    )[source.name]


def _to_eight_bits(exact: Path, out: Path) -> None:
    quantize_dynamic(exact, out, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=True)


def _to_four_bits(exact: Path, out: Path) -> None:
    quantiser = MatMulNBitsQuantizer(onnx.load(exact), bits=4, block_size=32, is_symmetric=True, accuracy_level=4)
    quantiser.process()
    quantiser.model.save_model_to_file(str(out), use_external_data_format=True)


if __name__ == "__main__":
    main()
