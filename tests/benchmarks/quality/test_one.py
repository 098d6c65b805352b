import json
from pathlib import Path
from typing import Any

import pytest

from adamix_train.recipe.recipe import Recipe
from benchmarks.quality import one


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run that was cut short; later tests keep the log level of transformers."""
    monkeypatch.setattr(one.transformers.logging, "set_verbosity_error", lambda: None)
    (tmp_path / "run" / "checkpoint-1").mkdir(parents=True)
    order(tmp_path, routes=True)
    return tmp_path


def order(folder: Path, *, routes: bool) -> dict[str, Any]:
    recipe = {"base": "base", "out": str(folder / "run"), "num_modules": 2}
    (folder / "order.json").write_text(json.dumps({"recipe": recipe, "routes": routes}))
    return recipe


def trained(recipe: Recipe) -> dict[str, float]:
    Path(recipe.out).mkdir()
    (Path(recipe.out) / "weights").touch()
    return {"test_accuracy": 0.75}


def test_a_run_starts_afresh_and_leaves_its_record_and_no_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one, "train", trained)
    monkeypatch.setattr(one, "compare_routes", lambda recipe: {"mean": float(recipe.num_modules)})
    for routes, ways in ((True, {"mean": 2.0}), (False, {})):
        recipe = order(folder, routes=routes)
        one.main(folder)
        record = json.loads((folder / "record.json").read_text())
        assert record.pop("seconds") >= 0
        assert record == {"test_accuracy": 0.75, "recipe": recipe, "routes": ways}
        assert sorted(file.name for file in folder.iterdir()) == ["order.json", "record.json"]


def test_a_run_that_fails_has_no_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(recipe: Recipe) -> dict[str, float]:
        raise ValueError("no such way")

    monkeypatch.setattr(one, "train", trained)
    monkeypatch.setattr(one, "compare_routes", compare)
    with pytest.raises(ValueError, match="no such way"):
        one.main(folder)
    assert not (folder / "record.json").exists()


def test_an_answer_is_done_or_the_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one, "train", trained)
    monkeypatch.setattr(one, "compare_routes", lambda _: {})
    assert one.answer(folder) == "done"

    def fail(recipe: Recipe) -> dict[str, float]:
        raise ValueError("of two\nlines")

    monkeypatch.setattr(one, "train", fail)
    assert one.answer(folder) == "ValueError: of two lines"
