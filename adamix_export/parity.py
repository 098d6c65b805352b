"""Compare a bundle in ONNX Runtime with the checkpoint in PyTorch: the last act of every export."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adamix_export.errors import ParityError
from adamix_export.source import Source
from adamix_train.errors import DataError
from adamix_train.metrics.table import METRICS
from adamix_train.recipe import Recipe
from adamix_train.tasks.examples import Example
from adamix_train.tasks.splits import read_all, task_of
from serve.classify import Classifier

CANARIES = (
    "Everything arrived on time and works as it should, thank you.",
    "It broke on the second day and nobody answers my letters.",
    "Where can I change the address on my invoice?",
    "no",
)
"""Texts of our own: they go into every bundle, as token ids."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported adapter is from PyTorch."""

    rows: int
    data: str
    max_difference: float
    """Of the logits."""
    tolerance: float
    equal_labels: float
    """Share of rows with the same label in both."""
    metric: str
    pytorch: float | None
    """The metric on the data; None where there were no labels."""
    onnx: float | None
    provider: str

    @property
    def passed(self) -> bool:
        """Whether the export may be kept."""
        return bool(self.max_difference <= self.tolerance and self.equal_labels == 1)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as the manifest stores it."""
        return {**asdict(self), "passed": self.passed}


def parity_examples(source: Source, data: Path | None, *, limit: int) -> tuple[list[Example], str]:
    """Return labelled texts and where they are from: `data`, else the run's test or validation file, else none."""
    recipe = Recipe(**source.card.recipe)
    known = [str(data)] if data else [files for files in (recipe.test_file, recipe.validation_file) if files]
    files = next((files for files in known if data or all(Path(file).is_file() for file in files.split(","))), None)
    if files is None:
        return [], "canary texts"
    examples = read_all(files, task_of(recipe))[:limit]
    if strange := sorted({example.target for example in examples} - set(source.card.labels)):
        raise DataError(f"{files} has labels that {source.name} does not know: {', '.join(strange[:5])}")
    return examples, ",".join(Path(file).name for file in files.split(","))


def compare(
    sources: Sequence[Source],
    classifier: Classifier,
    *,
    data: Path | None,
    limit: int,
    tolerance: float,
) -> dict[str, Parity]:
    """Return the report of every source; in a bank the rows of all sources share batches."""
    cases = []
    for source in sources:
        examples, origin = parity_examples(source, data, limit=limit)
        cases.append((source, [example.texts[0] for example in examples] + list(CANARIES), examples, origin))
    texts = [text for _, texts, *_ in cases for text in texts]
    names = [source.name for source, texts, *_ in cases for _ in texts]
    predictions = iter(classifier(texts, adapter=names))
    reports = {}
    for source, texts, examples, origin in cases:
        found = np.stack([next(predictions).logits for _ in texts])
        expected = source.logits(texts)
        labels = np.array([source.card.labels.index(example.target) for example in examples], np.int64)
        metric = METRICS[source.card.metric]
        reports[source.name] = Parity(
            rows=len(texts),
            data=origin,
            max_difference=float(np.abs(found - expected).max()) if np.isfinite(found).all() else float("inf"),
            tolerance=tolerance,
            equal_labels=float((found.argmax(-1) == expected.argmax(-1)).mean()),
            metric=source.card.metric,
            pytorch=metric(expected[: len(labels)], labels) if len(labels) else None,
            onnx=metric(found[: len(labels)], labels) if len(labels) else None,
            provider=classifier.provider,
        )
    return reports


def require(reports: dict[str, Parity]) -> None:
    """Raise an error for the first report that did not pass."""
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name}: the exported graph does not agree with PyTorch: logits differ by up to "
                f"{report.max_difference:.2e} (tolerance {report.tolerance:.0e}), {report.equal_labels:.2%} of "
                f"{report.rows} labels are equal; nothing was written"
            )
