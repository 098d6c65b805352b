import json
from dataclasses import asdict
from pathlib import Path

import pytest

from adamix_train.artifacts.checkpoint import CARD, Card, read_card, write_card
from adamix_train.errors import RecipeError
from adamix_train.recipe.flags import make_recipe
from adamix_train.recipe.recipe import Recipe
from adamix_train.recipe.stored import current_fields
from adamix_train.run.run_folder import STARTED, resume_point

FORMER = {"base": "b", "out": "o", "move_unselected": False}
NOW = Recipe(base="b", out="o", update_unselected=False)


def former_recipe() -> dict[str, object]:
    """The fields of NOW as an earlier version stored them."""
    stored = asdict(NOW)
    stored["move_unselected"] = stored.pop("update_unselected")
    return stored


def test_a_renamed_field_is_read_under_its_former_name() -> None:
    assert Recipe(**current_fields(former_recipe())) == NOW


def test_a_recipe_file_may_have_the_former_name(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps(FORMER))
    assert make_recipe(tmp_path / "r.yaml", {}) == NOW


def test_a_run_that_an_earlier_version_started_is_resumed(tmp_path: Path) -> None:
    (tmp_path / STARTED).write_text(json.dumps(former_recipe()))
    assert resume_point(NOW, tmp_path) == (NOW, None)
    with pytest.raises(RecipeError, match=r"update_unselected is True, but the run in .* was started with False"):
        resume_point(Recipe(base="b", out="o"), tmp_path)


def test_a_run_from_before_a_field_existed_has_its_default(tmp_path: Path) -> None:
    stored = asdict(NOW)
    del stored["length_bucketing"]
    (tmp_path / STARTED).write_text(json.dumps(stored))
    assert resume_point(NOW, tmp_path) == (NOW, None)


def test_a_checkpoint_of_an_earlier_version_has_the_current_names(tmp_path: Path) -> None:
    described = {"base": "b", "base_sha256": "", "config_sha256": "", "data": {}, "task": "sst2", "labels": []}
    write_card(tmp_path, Card(**described, metric="accuracy", max_length=8, recipe=former_recipe()))
    assert "move_unselected" in json.loads((tmp_path / CARD).read_text())["recipe"]
    assert Recipe(**read_card(tmp_path).recipe) == NOW
