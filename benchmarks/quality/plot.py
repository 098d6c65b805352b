"""Draw the spread over seeds, and results against passes."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from adamix_train.artifacts.atomic_write import atomic_file
from benchmarks.quality.findings import points_of
from benchmarks.quality.grid import Outcome
from benchmarks.quality.protocol import METHODS, MIXTURES
from benchmarks.quality.results import Result, cells_of


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


APART = 1.015
"""Factor of the passes between methods, so that their bars stand beside each other."""


def draw_passes(results: Sequence[Result], file: Path) -> None:
    """Write a PNG: score and test loss against passes, a column for each task, a line for each method.

    A point is the mean over seeds, its bar two standard errors. Mixtures have full lines, the others dashed ones.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = cells_of(results)
    tasks = list(dict.fromkeys(task for task, *_ in cells))
    figure = Figure(figsize=(6 * len(tasks), 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for axes, (field, label) in zip(
        grid, (("score", "points on the test data"), ("test_loss", "test loss")), strict=True
    ):
        for panel, task in zip(axes, tasks, strict=True):
            for method in (name for name in METHODS if any(cell[::2] == (task, name) for cell in cells)):
                points = {
                    passes: [getattr(result, field) for result in cell.values()]
                    for (of, passes, name), cell in sorted(cells.items())
                    if (of, name) == (task, method)
                }
                panel.errorbar(
                    [passes * APART ** METHODS.index(method) for passes in points],
                    [statistics.mean(values) for values in points.values()],
                    [2 * _standard_error(values) for values in points.values()],
                    marker="o",
                    capsize=3,
                    linestyle="-" if method in MIXTURES else "--",
                    color=f"C{METHODS.index(method) % 10}",
                    label=method,
                )
            panel.set_xscale("log", base=2)
            panel.set(title=task, xlabel="passes", ylabel=label)
            panel.set_xticks(sorted({passes for _, passes, _ in cells}), minor=False)
            panel.xaxis.set_major_formatter("{x:.0f}")
            panel.grid(alpha=0.3)
    grid[0][-1].legend(fontsize="small")
    with atomic_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
