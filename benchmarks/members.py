"""The worth of what the members of a mixture tell beyond their mean, and its cost.

A MiniLM mixture is trained on 1,000 sentences of SST-2, as `benchmarks.quality` does, and exported with --keep-modules.
On SST-2's test sentences, measured by the area under the risk-coverage curve (the least certain are left out first) and
the calibration error, and against sentences of MRPC, which are news and no reviews: the softmax of the mean, the spread
of the members, their ensemble, its entropy, and samples of the mean with dropout in PyTorch. Trainings and what was
found of each are kept under --runs: the command can be stopped and repeated. The files come from ADAMIX_DATA (default:
../shared/data).
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.artifacts.atomic_write import write_text
from adamix_train.data.splits import read_all
from adamix_train.metrics.calibration import calibration_error
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.flags import make_recipe
from adamix_train.run.train import train
from adamix_train.tasks.table import TASKS
from benchmarks.quality.runs import Budget, Run
from benchmarks.quality.tasks import SUBJECTS
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace, Timings, measure
from benchmarks.support.uncertainty import Flags, Floats, aurc, auroc, entropy
from demos.models import sample_model
from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier

RATES = {"shares": 3e-3, "adamix": 3e-3, "adamix-no-consistency": 6e-3}
"""Methods of `benchmarks.quality` that are trained, and the learning rates that it found for them."""
HOME, FOREIGN = "sst2", "mrpc"
FOREIGN_TEXTS = 500
TIMED_TEXTS = 64
SAMPLES = 8
"""Runs of the mean with dropout."""
BATCH = 64
ROUNDS, QUICK_ROUNDS, QUICK_SCALE, QUICK_TEXTS = 5, 2, 0.1, 50
SOFTMAX, SPREAD, ENSEMBLE, ENTROPY, DROPOUT = "softmax", "spread", "ensemble", "entropy", "dropout"
LESS = 0.9
"""Goal of the area under the risk-coverage curve with members, by that of the mean's softmax."""
PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxruntime", "numpy")
Texts = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Probabilities for the same texts."""

    mean: Floats
    """(texts, labels) of the mean of the modules."""
    members: Floats
    """(texts, modules, labels)."""
    dropout: Floats
    """(texts, samples, labels) of the mean with dropout."""


@dataclass(frozen=True)
class Measure:
    """A way to tell how certain a prediction is."""

    probabilities: Floats
    """(texts, labels): the most probable label is predicted."""
    uncertainty: Floats
    """(texts,)."""


MEASURES: dict[str, Callable[[Answers], Measure]] = {
    SOFTMAX: lambda answers: _by_probability(answers.mean),
    SPREAD: lambda answers: Measure(answers.mean, _spread(answers)),
    ENSEMBLE: lambda answers: _by_probability(answers.members.mean(1)),
    ENTROPY: lambda answers: Measure(answers.members.mean(1), entropy(answers.members.mean(1))),
    DROPOUT: lambda answers: _by_probability(answers.dropout.mean(1)),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Findings of one trained mixture."""

    home: Answers
    foreign: Answers
    targets: Floats
    """(texts,): numbers of the right labels at home."""
    rates: dict[str, float]
    """Texts per second by measure."""


def main(argv: list[str] | None = None) -> None:
    """Train, export and measure, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.members", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join(RATES), help="with commas (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/members"), help="where trainings are kept")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: shows that it runs")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout, the table to stderr")
    args = parser.parse_args(argv)
    args.methods = args.methods.split(",")
    if unknown := [name for name in args.methods if name not in RATES]:
        parser.error(f"unknown method {unknown[0]!r}; known are {', '.join(RATES)}")
    command = " ".join(["python -m benchmarks.members", *(sys.argv[1:] if argv is None else argv)])
    publish("members", command, lambda: measure_members(args), json_to=args.json)


def measure_members(args: argparse.Namespace) -> Findings:
    """Measure a mixture of each method."""
    SUBJECTS[FOREIGN].files()  # an error before anything is trained
    budget = Budget(scale=QUICK_SCALE if args.quick else 1.0)
    rows: list[Row] = []
    for method in args.methods:
        run = Run(subject=HOME, method=method, rate=RATES[method], seed=args.seed, budget=budget, precision="bf16")
        found = args.runs / f"{run.name}.json"
        if not found.exists():
            outcome = outcome_of(trained(run, args.runs), quick=args.quick)
            write_text(found, json.dumps([row_of(method, name, outcome) for name in MEASURES]))
        rows += json.loads(found.read_text())
    return findings_of(rows)


def trained(run: Run, runs: Path) -> Checkpoint:
    """Return the checkpoint of a run, which is trained unless it is there."""
    folder, marker = runs / run.name, runs / f"{run.name}.done"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        train(make_recipe(None, run.recipe(sample_model(SUBJECTS[HOME].base), folder)))
        marker.touch()
    return open_checkpoint(f"{HOME}={folder}")


def outcome_of(source: Checkpoint, *, quick: bool) -> Outcome:
    """Export a mixture with its modules, run all texts, and time the ways to run them."""
    most = QUICK_TEXTS if quick else None
    examples = read_all(SUBJECTS[HOME].files()["test_file"], TASKS[HOME])[:most]
    texts = [example.texts[0] for example in examples]
    foreign = [one.texts[0] for one in read_all(SUBJECTS[FOREIGN].files()["test_file"], TASKS[FOREIGN])]
    foreign = foreign[: most or FOREIGN_TEXTS]
    with TemporaryDirectory() as scratch:
        options = Options(check=Check(limit=32), keep_modules=True)
        EXPORTS["bank"]([source], Path(scratch) / "bank", options, lambda stage: None)
        bundle = open_bundle(Path(scratch) / "bank")
        classifier = Classifier(bundle, provider="cpu")
        ensemble = Classifier(bundle, provider="cpu", ensemble=True)
        start = time.perf_counter()
        dropout = dropout_samples(source, [*texts, *foreign])
        seconds = time.perf_counter() - start
        sides = {
            SOFTMAX: lambda: classifier(texts[:TIMED_TEXTS]),
            SPREAD: lambda: classifier(texts[:TIMED_TEXTS], members=True),
            ENSEMBLE: lambda: ensemble(texts[:TIMED_TEXTS]),
        }
        timings = measure({HOME: sides}, Pace(rounds=QUICK_ROUNDS if quick else ROUNDS))
        rates = rates_of(timings, len(texts[:TIMED_TEXTS])) | {DROPOUT: len(dropout) / seconds}
        return Outcome(
            home=answers_of(classifier, texts, dropout[: len(texts)]),
            foreign=answers_of(classifier, foreign, dropout[len(texts) :]),
            targets=np.array([source.card.labels.index(example.target) for example in examples]),
            rates=rates,
        )


def rates_of(timings: Timings, count: int) -> dict[str, float]:
    """Return texts per second; the entropy is that of the ensemble, and costs what this costs."""
    rates = {name: count / timing.seconds for name, timing in timings[HOME].items()}
    return rates | {ENTROPY: rates[ENSEMBLE]}


def answers_of(classifier: Classifier, texts: Texts, dropout: Floats) -> Answers:
    """Return the predictions of a bundle's mixture, beside samples with dropout."""
    predictions = classifier(texts, adapter=HOME, members=True)
    return Answers(
        mean=np.stack([one.scores for one in predictions]),
        members=np.stack([one.members for one in predictions if one.members is not None]),
        dropout=dropout,
    )


def dropout_samples(source: Checkpoint, texts: Texts) -> Floats:
    """Return probabilities (texts, samples, labels) of the mean in PyTorch with dropout (Gal and Ghahramani, 2016)."""
    torch.manual_seed(0)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: dict[int, Floats] = {}
    with dropping_out(source.reference) as model, torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            inputs = source.tokenizer(
                [texts[index] for index in batch],
                truncation=True,
                max_length=source.card.max_length,
                padding=True,
                return_tensors="pt",
            )
            samples = [model(**inputs).logits.softmax(-1).numpy() for _ in range(SAMPLES)]
            found |= zip(batch, np.stack(samples, 1), strict=True)
    source.forget_reference()
    return np.stack([found[index] for index in range(len(texts))])


@contextmanager
def dropping_out(model: nn.Module) -> Iterator[nn.Module]:
    """Let a model drop out as in training, while its mixtures are their means."""
    model.train()
    for module in model.modules():
        if isinstance(module, MixtureLinear):
            module.eval()
    try:
        yield model
    finally:
        model.eval()


def findings_of(rows: Sequence[Row]) -> Findings:
    """Return the table and the goals."""
    goals = [
        Goal(
            what=f"{row['method']}: AURC of the {row['measure']} by that of the mean's softmax",
            value=float(str(row["by_softmax"])),
            goal=LESS,
            better="lower",
        )
        for row in rows
        if row["measure"] in (SPREAD, ENSEMBLE)
    ]
    worst = max(goals, key=lambda goal: goal.value or 0.0)
    return Findings(goals=goals, rows=rows, versions=versions_of(PACKAGES), worst=f"{worst.value:.3f} ({worst.what})")


def row_of(method: str, name: str, outcome: Outcome) -> Row:
    """Return the row of one measure."""
    home, foreign = MEASURES[name](outcome.home), MEASURES[name](outcome.foreign)
    area, softmax = _area(home, outcome.targets), _area(MEASURES[SOFTMAX](outcome.home), outcome.targets)
    right = ~_wrong(home, outcome.targets)
    return {
        "method": method,
        "measure": name,
        "accuracy": float(right.mean()),
        "aurc": area,
        "by_softmax": area / softmax,
        "ece": calibration_error(home.probabilities.max(-1), right),
        "auroc_mrpc": auroc(home.uncertainty, foreign.uncertainty),
        "texts_per_second": outcome.rates[name],
        "by_plain": outcome.rates[name] / outcome.rates[SOFTMAX],
    }


def _area(measured: Measure, targets: Floats) -> float:
    return aurc(measured.uncertainty, _wrong(measured, targets))


def _wrong(measured: Measure, targets: Floats) -> Flags:
    wrong: Flags = measured.probabilities.argmax(-1) != targets
    return wrong


def _by_probability(probabilities: Floats) -> Measure:
    return Measure(probabilities, 1 - probabilities.max(-1))


def _spread(answers: Answers) -> Floats:
    """Return the spread (texts,) of the predicted label."""
    labels = answers.mean.argmax(-1)
    spread: Floats = answers.members.std(1)[np.arange(len(labels)), labels]
    return spread


if __name__ == "__main__":
    main()
