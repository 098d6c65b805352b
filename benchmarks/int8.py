"""Loss of int8 over twenty classifiers, of adamix-train and of PEFT, and the independence of a text from its batch.

Each adapter is exported by itself in int8, compared with PyTorch on the test data of its task as every export is, and
each of these texts is then scored alone and beside others. FOLDER keeps the adapters; those that are not there are
trained first, which takes an hour or two.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.examples import parity_examples
from adamix_export.parity.report import Parity
from adamix_export.pipeline.export import EXPORTS, UNBOUNDED
from adamix_export.pipeline.options import Options
from benchmarks.support.adapters import ADAPTERS, adapters
from benchmarks.support.harness import publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from serve import Classifier
from serve.bundle.reader import open_bundle
from serve.classification.text_tokenizer import EncodedText
from serve.prediction import Prediction

PRECISION = "int8"
MOST_POINTS = 0.005
"""Goal: most of the metric that an adapter loses, unless it is a single row."""
SAME = 1e-6
"""Goal: largest difference of a score between a text alone and in a batch."""
TEXTS = 100
"""Texts of each adapter that are scored alone and in batches."""
BATCH = 16
SEED = 0
LIMIT = 500
VERSIONS = ("torch", "transformers", "peft", "onnx", "onnxruntime")


def main(argv: list[str] | None = None) -> None:
    """Export, compare, print the table and write the JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.int8", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the adapters")
    parser.add_argument("--only", help=f"with commas, of {', '.join(ADAPTERS)} (default: all)")
    parser.add_argument("--json", metavar="FILE|-", help="write one JSON object; with - to stdout")
    args = parser.parse_args(argv)
    names = args.only.split(",") if args.only else list(ADAPTERS)
    if unknown := [name for name in names if name not in ADAPTERS]:
        parser.error(f"unknown adapter {unknown[0]!r}; known are {', '.join(ADAPTERS)}")
    logging.getLogger("adamix_export").setLevel(logging.ERROR)
    command = "python -m benchmarks.int8 " + " ".join(sys.argv[1:] if argv is None else argv)
    publish("int8", command, lambda: compare_adapters(args.folder, names), json_to=args.json)


def compare_adapters(folder: Path, names: Sequence[str]) -> Findings:
    """Return what each adapter of `names` loses in int8."""
    with progress_bar(adapters(folder, names), total=len(names), unit="adapter") as bar:
        return findings_of([exported(checkpoint, data) for checkpoint, data in bar])


def exported(checkpoint: Checkpoint, data: Path) -> Row:
    """Export an adapter in int8 and return its row of the table; no loss is refused."""
    check = Check(data=data, limit=LIMIT)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "bundle"
        options = Options(
            check=check, precision=PRECISION, tolerance=UNBOUNDED, max_metric_drop=UNBOUNDED, approximate=True
        )
        (report,) = EXPORTS["merged"]([checkpoint], out, options, lambda stage: None).values()
        checkpoint.forget_reference()
        examples, _ = parity_examples(checkpoint, check)
        texts = [one.texts if len(one.texts) > 1 else one.texts[0] for one in examples[:TEXTS]]
        return row_of(checkpoint.name, report, open_bundle(out).manifest.quantized_share, difference(out, texts))


def difference(bundle: Path, texts: Sequence[Any]) -> float:
    """Return the largest difference of a score between texts alone and in random batches."""
    classifier = Classifier(bundle, provider="cpu")
    rows = [classifier.encode(text, None, truncate=True) for text in texts]
    alone = np.concatenate([_scores(classifier, [row]) for row in rows])
    together = {tuple(batch): _scores(classifier, [rows[index] for index in batch]) for batch in _batches(len(rows))}
    return float(max(np.abs(found - alone[list(batch)]).max() for batch, found in together.items()))


def row_of(name: str, report: Parity, share: float | None, batch_difference: float) -> Row:
    """Return the row of an adapter."""
    lost = report.metric_drop
    one = 1 / (report.labelled or report.rows)
    return {
        "adapter": name,
        "rows": report.labelled,
        "metric": report.metric,
        "fp32": report.pytorch,
        "int8": report.onnx,
        "lost": lost,
        "within": lost is not None and lost <= max(MOST_POINTS, one) + 1e-9,
        "equal": report.equal_labels,
        "logits": report.max_difference,
        "quantized": share,
        "batch_difference": batch_difference,
    }


def findings_of(rows: Sequence[Row]) -> Findings:
    """Return the table and the goals."""
    lost = {str(row["adapter"]): float(str(row["lost"])) for row in rows}
    worst = max(lost, key=lambda name: lost[name])
    within = sum(bool(row["within"]) for row in rows)
    return Findings(
        goals=[
            Goal(
                what=f"share of {len(rows)} adapters that lose at most 0.5 points or one row",
                value=within / len(rows),
                goal=1.0,
            ),
            Goal(
                what="largest difference of a score between a text alone and in a batch",
                value=max(float(str(row["batch_difference"])) for row in rows),
                goal=SAME,
                better="lower",
            ),
        ],
        rows=rows,
        versions=versions_of(VERSIONS),
        worst=f"{worst} loses {lost[worst]:.4f}",
    )


def _scores(classifier: Classifier, rows: Sequence[EncodedText]) -> np.ndarray:
    """Return the scores (rows, labels) of one batch."""
    predictions = [found for found in classifier.run(rows) if isinstance(found, Prediction)]
    return np.stack([found.scores for found in predictions])


def _batches(count: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(SEED).permutation(count)
    for start in range(0, count, BATCH):
        yield order[start : start + BATCH]


if __name__ == "__main__":
    main()
