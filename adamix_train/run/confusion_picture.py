"""Draw the confusion matrix of a classifier."""

from pathlib import Path

from adamix_train.artifacts.atomic_write import atomic_file
from adamix_train.metrics.classes import ClassReport

MAX_NAMED = 40
"""Labels beyond which the axes have no names, and cells no counts."""


def draw_confusion(report: ClassReport, file: Path) -> None:
    """Write a PNG of the share of each label's examples that were predicted as each label, with the counts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(report.labels)
    size = min(12.0, 2.5 + 0.45 * count)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    totals = report.confusion.sum(1, keepdims=True).clip(min=1)
    image = axes.imshow(report.confusion / totals, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the label's examples")
    axes.set(xlabel="predicted", ylabel=f"label in the {report.data} data")
    if count <= MAX_NAMED:
        axes.set_xticks(range(count), report.labels, rotation=45, ha="right")
        axes.set_yticks(range(count), report.labels)
        for row, column in zip(*report.confusion.nonzero(), strict=True):
            dark = report.confusion[row, column] > totals[row, 0] / 2
            text = str(report.confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    with atomic_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
