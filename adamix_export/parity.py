"""Compare a bundle in ONNX Runtime with the checkpoint in PyTorch: the last act of every export."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adamix_export.errors import ParityError
from adamix_export.source import Source
from adamix_train.errors import DataError
from adamix_train.recipe import Recipe
from adamix_train.tasks.examples import Example
from adamix_train.tasks.splits import read_all, task_of


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a bundle is compared on."""

    data: Path | None = None
    """Labelled texts; None takes each run's own test or validation file."""
    limit: int | None = None
    """Most texts, for each adapter; None takes the task's own number."""
    tolerance: float = 1e-4
    """Largest difference of a logit."""


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


def parity_examples(source: Source, check: Check) -> tuple[list[Example], str]:
    """Return examples and where they are from: the check's, else the run's test or validation file, else none."""
    recipe = Recipe(**source.card.recipe)
    own = [files for files in (recipe.test_file, recipe.validation_file) if files]
    known = [str(check.data)] if check.data else [files for files in own if _are_there(files)]
    if not known:
        return [], "canary texts"
    examples = read_all(known[0], task_of(recipe))[: check.limit]
    if source.card.labels and (strange := sorted({example.target for example in examples} - set(source.card.labels))):
        raise DataError(f"{known[0]} has labels that {source.name} does not know: {', '.join(strange[:5])}")
    return examples, ",".join(Path(file).name for file in known[0].split(","))


def _are_there(files: str) -> bool:
    return all(Path(file).is_file() for file in files.split(","))


def require(reports: dict[str, Parity]) -> None:
    """Raise an error for the first report that did not pass."""
    for name, report in reports.items():
        if not report.passed:
            raise ParityError(
                f"{name}: the exported graph does not agree with PyTorch: logits differ by up to "
                f"{report.max_difference:.2e} (tolerance {report.tolerance:.0e}), {report.equal_labels:.2%} of "
                f"{report.rows} labels are equal; nothing was written"
            )
