import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from adamix_train.artifacts.checkpoint import read_card, whole_checkpoints, write_card
from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.run_folder import STARTED, check_recipe, check_same, resume_point
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


def test_a_run_from_before_a_setting_was_chosen_goes_on_as_it_began(recipe: Recipe, tmp_path: Path) -> None:
    """Its recipe had no such fields, or the published way as their defaults."""
    said = asdict(replace(recipe, out=str(tmp_path)))
    for name in ("consistency_from", "labels_on"):
        del said[name]
    (tmp_path / STARTED).write_text(json.dumps(said | {"routing": "batch"}))
    resumed, _ = resume_point(replace(recipe, out=str(tmp_path)), tmp_path)
    assert (resumed.routing, resumed.consistency_from, resumed.labels_on) == ("batch", 0.0, "first")
    with pytest.raises(RecipeError, match=r"routing is 'shares', but the run in .* was started with 'batch'"):
        resume_point(replace(recipe, routing="shares", out=str(tmp_path)), tmp_path)


def on_another_device(step: Path) -> str:
    """Make a step checkpoint one of another kind of device, and return this machine's own."""
    card = read_card(step)
    other = "cpu" if card.device == "cuda" else "cuda"
    write_card(step, replace(card, device=other))
    return card.device


def test_a_run_is_resumed_on_its_own_kind_of_device(finished_run: Recipe) -> None:
    """With the random numbers of another one it would not end with the weights of an uninterrupted run."""
    step = whole_checkpoints(Path(finished_run.out))[-1]
    own = on_another_device(step)
    with pytest.raises(CheckpointError, match=rf"was trained on \w+, and this machine trains on {own}: .* a new run"):
        train(finished_run, resume=True)


def test_a_checkpoint_that_does_not_say_its_device_is_taken(finished_run: Recipe) -> None:
    step = whole_checkpoints(Path(finished_run.out))[-1]
    card = read_card(step)
    write_card(step, replace(card, device=""))
    check_same(card, step)


def test_a_run_is_resumed_from_another_folder(
    finished_run: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose recipe was stored with relative paths, by an earlier version."""
    stored = json.loads((Path(finished_run.out) / "recipe.json").read_text())
    monkeypatch.chdir(Path(finished_run.train_file or "").parent)
    name = Path(finished_run.train_file or "").name
    check_recipe(replace(finished_run, train_file=name, test_file=name), stored, tmp_path)
    check_recipe(finished_run, stored | {"train_file": name}, tmp_path)
    with pytest.raises(RecipeError, match="train_file is"):
        check_recipe(replace(finished_run, train_file="other.csv"), stored, tmp_path)
