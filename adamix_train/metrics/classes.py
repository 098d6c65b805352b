"""A classifier's results for each label, computed by scikit-learn, which is imported when they are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from adamix_train.metrics.calibration import calibration_error_of
from adamix_train.metrics.labels import Labels, Logits


@dataclass(frozen=True, kw_only=True)
class ClassReport:
    """Results for each label of a data set."""

    data: str
    """Name of the data set: test or validation."""
    labels: Sequence[str]
    precision: Sequence[float]
    """Share of the predictions of a label that are right; 0 if there are none."""
    recall: Sequence[float]
    """Share of the examples of a label that are found; 0 if there are none."""
    f1: Sequence[float]
    examples: Sequence[int]
    calibration_error: float
    """Expected difference between the probability of a predicted label and how often it is right."""
    confusion: NDArray[Any]
    """Counts (labels, labels): rows are the labels of the data, columns the predictions."""

    def as_dict(self) -> dict[str, Any]:
        """Return the results by label, as results.json has them."""
        columns = zip(self.labels, self.precision, self.recall, self.f1, self.examples, strict=True)
        names = ("precision", "recall", "f1", "examples")
        by_label = {label: dict(zip(names, row, strict=True)) for label, *row in columns}
        return {"data": self.data, "calibration_error": self.calibration_error, "labels": by_label}


def class_report(logits: Logits, labels: Labels, names: Sequence[str], data: str) -> ClassReport:
    """Return the results of logits (rows, labels) against label indices (rows,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices, predicted = range(len(names)), logits.argmax(-1)
    scores = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    precision, recall, f1, examples = (column.tolist() for column in scores)
    return ClassReport(
        data=data,
        labels=list(names),
        precision=precision,
        recall=recall,
        f1=f1,
        examples=examples,
        calibration_error=calibration_error_of(logits, labels),
        confusion=confusion_matrix(labels, predicted, labels=indices),
    )
