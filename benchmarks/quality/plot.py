"""Draw the spread over seeds."""

import statistics
from pathlib import Path

from adamix_train.artifacts.atomic_write import atomic_file
from benchmarks.quality.findings import points_of
from benchmarks.quality.grid import Outcome


def draw_spread(outcome: Outcome, file: Path) -> None:
    """Write a PNG: a panel for each task and number of examples, a line for each method, a dot for each seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, list[float]]] = {}
    for (subject, budget, method), records in outcome.records.items():
        title = f"{subject}, {budget.name(subject)}" + (
            "" if budget.shots else " examples" if budget.times == 1 else ""
        )
        panels.setdefault(title, {})[method] = points_of(subject, records)
    figure = Figure(figsize=(5 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, methods) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for height, values in enumerate(reversed(methods.values())):
            axes.plot(values, [height] * len(values), "o", color="tab:blue", alpha=0.6)
            axes.plot(statistics.mean(values), height, "|", color="black", markersize=16)
        axes.set_yticks(range(len(methods)), list(reversed(methods)))
        axes.set(title=title, xlabel="points on the test data")
        axes.grid(axis="x", alpha=0.3)
    with atomic_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
