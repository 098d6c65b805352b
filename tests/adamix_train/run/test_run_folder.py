from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train


def test_a_folder_with_something_in_it_is_not_written_to(recipe: Recipe) -> None:
    Path(recipe.out).mkdir()
    (Path(recipe.out) / "precious").write_text("")
    with pytest.raises(RecipeError, match="is not empty: give another --out, or --resume"):
        train(recipe)
    assert [path.name for path in Path(recipe.out).iterdir()] == ["precious"]


def test_a_file_in_the_place_of_the_folder_is_kept(recipe: Recipe) -> None:
    Path(recipe.out).write_text("precious")
    with pytest.raises(RecipeError, match="is a file: give another --out"):
        train(recipe)
    assert Path(recipe.out).read_text() == "precious"


def test_resuming_nothing_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, resume=True)


def test_a_run_is_resumed_with_its_own_data_and_base(recipe: Recipe, tmp_path: Path) -> None:
    data = tmp_path / "own.csv"
    data.write_text(Path(recipe.train_file).read_text())
    recipe = replace(recipe, train_file=str(data), test_file=None, epochs=1)
    train(recipe)
    data.write_text(data.read_text().replace("negative", "zzz"))
    with pytest.raises(CheckpointError, match="labels changed since the run was started"):
        train(recipe, resume=True)


def test_a_run_is_resumed_with_its_own_recipe(finished_run: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"epochs is 2, but the run in .* was started with 1"):
        train(replace(finished_run, epochs=2), resume=True)
