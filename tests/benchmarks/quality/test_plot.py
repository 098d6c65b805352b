from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks.quality.grid import Outcome
from benchmarks.quality.plot import draw_passes, draw_spread
from benchmarks.quality.protocol import METHODS
from benchmarks.quality.results import Result
from benchmarks.quality.runs import Budget


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the list of figures that are saved from now on."""
    found: list[Figure] = []
    save = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        found.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def records(*accuracies: float) -> list[dict[str, Any]]:
    return [{"test_accuracy": value} for value in accuracies]


def lines_of(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return the dots and the mark of each method, by its name on the axis."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    drawn: dict[str, list[list[float]]] = {name: [] for name in names}
    for line in axes.lines:
        (height,) = {float(y) for y in line.get_ydata()}
        drawn[names[int(height)]].append([float(x) for x in line.get_xdata()])
    return {name: (dots, mark) for name, (dots, mark) in drawn.items()}


def test_each_budget_has_a_panel_with_the_points_of_every_method(tmp_path: Path, figures: list[Figure]) -> None:
    file = tmp_path / "spread.png"
    draw_spread(
        Outcome(
            records={
                ("sst2", Budget(), "adapter"): records(0.75, 0.25),
                ("sst2", Budget(), "adamix"): records(0.5, 1.0),
                ("sst2", Budget(shots=16), "adamix"): records(0.25),
                ("sst2", Budget(times=4), "adamix"): records(0.5),
            }
        ),
        file,
    )
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == [
        "sst2, 1000 examples",
        "sst2, K = 16",
        "sst2, 1000, 4 x the passes",
    ]
    assert lines_of(figure.axes[0]) == {"adamix": ([50.0, 100.0], [75.0]), "adapter": ([75.0, 25.0], [50.0])}
    assert lines_of(figure.axes[1]) == {"adamix": ([25.0], [25.0])}
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["adamix", "adapter"], "from below"
    assert file.read_bytes().startswith(b"\x89PNG")


def test_passes_have_a_column_a_task_and_a_line_a_method(tmp_path: Path, figures: list[Figure]) -> None:
    def result(task: str, passes: int, method: str, seed: int, score: float) -> Result:
        return Result(
            task=task, passes=passes, method=method, seed=seed, rate=1e-3, score=score, test_loss=0.5, loss=0.5, ece=0.1
        )

    results = [
        result("sst2", 6, "shares", 3, 80.0),
        result("sst2", 6, "shares", 4, 82.0),
        result("sst2", 12, "shares", 3, 84.0),
        result("sst2", 6, "adapter", 3, 79.0),
        result("mrpc", 6, "adapter", 3, 70.0),
    ]
    draw_passes(results, tmp_path / "passes.png")
    (figure,) = figures
    assert [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes] == [
        ("sst2", "points on the test data"),
        ("mrpc", "points on the test data"),
        ("sst2", "test loss"),
        ("mrpc", "test loss"),
    ]
    sst2 = {bars.get_label(): bars for bars in figure.axes[0].containers}
    line, _, (bars,) = sst2["shares"].lines
    assert METHODS[0] == "shares", "which is drawn where the passes are, the others beside it"
    assert [*line.get_xydata().ravel()] == [6, 81, 12, 84]
    assert 6 < sst2["adapter"].lines[0].get_xdata()[0] < 8
    assert [[*segment[:, 1]] for segment in bars.get_segments()] == [pytest.approx([79, 83]), [84, 84]]
    assert set(sst2) == {"shares", "adapter"}
    assert (tmp_path / "passes.png").read_bytes().startswith(b"\x89PNG")
