"""The summary that adamix-train prints of a run's results."""

from collections.abc import Iterator
from typing import Any

from adamix_train.metrics.table import METRICS

LEFT_OUT = ("history", "classes", "settings", "advice")
MAX_LABELS = 20
"""Labels up to which the summary has a line for each."""
ON_VALIDATION = {"loss", *METRICS}
"""Names in results.json that are measured on the validation data."""


def spelled_out(name: str) -> str:
    """Return the name of a result that says which data it was measured on."""
    return f"validation_{name}" if name in ON_VALIDATION else name


def summary(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines: one a result, a table of the labels if there are few, and advice."""
    for name, value in results.items():
        if name not in LEFT_OUT:
            shown = f"{value:.4f}" if isinstance(value, float) else value
            yield f"{spelled_out(name):>20}  {shown}"
    classes = results.get("classes") or {"labels": {}}
    if 0 < len(classes["labels"]) <= MAX_LABELS:
        width = max(20, *map(len, classes["labels"]))
        yield f"{classes['data'] + ' label':>{width}}  precision  recall      f1  examples"
        for label, row in classes["labels"].items():
            scores = f"{row['precision']:9.4f}  {row['recall']:6.4f}  {row['f1']:6.4f}"
            yield f"{label:>{width}}  {scores}  {row['examples']:8}"
    for advice in results.get("advice", ()):
        yield f"\n{advice}"
