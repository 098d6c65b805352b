"""Compare a bundle in ONNX Runtime with the checkpoint in PyTorch: the last act of every export."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.errors import ParityError
from adamix_train.data.examples import Example
from adamix_train.data.splits import read_all, task_of
from adamix_train.errors import DataError
from adamix_train.recipe.recipe import Recipe

PERPLEXITY = "perplexity"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far a graph may be from PyTorch."""

    tolerance: float = 1e-4
    """Largest difference of a logit."""
    least_equal: float = 1.0
    """Least share of rows with the same label, or the same greedy tokens."""
    most_lost: float | None = None
    """Most that the metric may lose: points of it, or of perplexity a share; None allows any."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a bundle is compared on."""

    data: Path | None = None
    """Labelled texts; None takes each run's own test or validation file."""
    limit: int | None = None
    """Most texts, for each adapter; None takes the task's own number."""
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported adapter is from PyTorch."""

    rows: int
    data: str
    max_difference: float
    """Of the logits."""
    equal_labels: float
    """Share of rows with the same label in both."""
    metric: str
    pytorch: float | None
    """The metric on the data; None where there were no labels."""
    onnx: float | None
    provider: str
    bounds: Bounds

    @property
    def lost(self) -> float | None:
        """What ONNX Runtime lost of the metric: points of it, or of perplexity, which should be low, a share."""
        if self.pytorch is None or self.onnx is None:
            return None
        return self.onnx / self.pytorch - 1 if self.metric == PERPLEXITY else self.pytorch - self.onnx

    @property
    def allowed(self) -> float | None:
        """The most that may be lost: of a metric that counts rows, one row in any case."""
        most = self.bounds.most_lost
        return most if most is None or self.metric == PERPLEXITY else max(most, 1 / self.rows)

    @property
    def passed(self) -> bool:
        """Whether the export may be kept."""
        alike = self.max_difference <= self.bounds.tolerance and self.equal_labels >= self.bounds.least_equal
        return bool(alike and (self.lost is None or self.allowed is None or self.lost <= self.allowed))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as the manifest stores it."""
        return {**asdict(self), "passed": self.passed}


def parity_examples(source: Source, check: Check) -> tuple[list[Example], str]:
    """Return examples and where they are from: the check's, else the run's test or validation file, else none."""
    recipe = Recipe(**source.card.recipe)
    own = [files for files in (recipe.test_file, recipe.validation_file) if files]
    known = [str(check.data)] if check.data else [files for files in own if are_there(files)]
    if not known:
        return [], "canary texts"
    examples = read_all(known[0], task_of(recipe))[: check.limit]
    if source.card.labels and (strange := sorted({example.target for example in examples} - set(source.card.labels))):
        raise DataError(f"{known[0]} has labels that {source.name} does not know: {', '.join(strange[:5])}")
    return examples, ",".join(Path(file).name for file in known[0].split(","))


def are_there(files: str) -> bool:
    """Return whether every file of a list with commas is there."""
    return all(Path(file).is_file() for file in files.split(","))


def require(reports: dict[str, Parity]) -> None:
    """Raise an error for the first report that did not pass."""
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name}: the exported graph does not agree with PyTorch: {difference(report)}; nothing was written"
            )


def difference(report: Parity) -> str:
    """Return how far a graph is from PyTorch, and how far it may be."""
    text = (
        f"logits differ by up to {report.max_difference:.2e} (tolerance {report.bounds.tolerance:.0e}), "
        f"{report.equal_labels:.2%} of {report.rows} labels are equal"
    )
    if report.bounds.least_equal < 1:
        text += f" (at least {report.bounds.least_equal:.0%})"
    if report.lost is not None and report.allowed is not None:
        text += f", {report.metric} lost {report.lost:.2%} (at most {report.allowed:.2%})"
    return text
