from pathlib import Path
from typing import Any

from matplotlib import image

from adamix_train.run.learning_curve import draw_curve

HISTORY: list[dict[str, Any]] = [
    {"loss": 2.0, "step": 1},
    {"eval_loss": 1.5, "eval_accuracy": 0.5, "step": 1},
    {"loss": 1.0, "step": 2},
    {"eval_loss": 1.25, "eval_accuracy": 0.75, "step": 2},
]


def picture(folder: Path, history: list[dict[str, Any]], metric: str = "accuracy") -> Any:
    """The pixels (height, width, channels) of a curve."""
    draw_curve(history, metric, folder / "curve.png")
    return image.imread(folder / "curve.png")


def test_the_loss_and_the_metric_have_a_panel_each_at_120_dots_an_inch(tmp_path: Path) -> None:
    assert picture(tmp_path, HISTORY).shape[:2] == (420, 1200)
    assert picture(tmp_path, HISTORY, "loss").shape[:2] == (420, 600)
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_the_first_entry_of_a_step_is_drawn(tmp_path: Path) -> None:
    """The Trainer logs the best checkpoint's evaluation once more under the last step."""
    drawn = picture(tmp_path, HISTORY)
    again = picture(tmp_path, [*HISTORY, {"eval_loss": 9.0, "eval_accuracy": 0.1, "step": 2}])
    assert (again == drawn).all()
    other = picture(tmp_path, [*HISTORY, {"eval_loss": 9.0, "eval_accuracy": 0.1, "step": 3}])
    assert (other != drawn).any()
