from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from adamix_train.metrics.classes import class_report
from adamix_train.run.confusion_picture import draw_confusion


@pytest.mark.parametrize("count", [2, 60])
def test_a_perfect_classifier_has_dark_cells_and_the_file_is_whole(tmp_path: Path, count: int) -> None:
    labels = np.arange(count)
    report = class_report(np.eye(count), labels, [f"label {name}" for name in labels], "test")
    draw_confusion(report, tmp_path / "c.png")
    picture = matplotlib.image.imread(tmp_path / "c.png")
    assert (picture[..., 2] - picture[..., 0] > 0.3).any(), "blue"
    assert [file.name for file in tmp_path.iterdir()] == ["c.png"]
