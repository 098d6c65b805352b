from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.splits import read_splits, task_of
from adamix_train.errors import DataError
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import hub_folder, write


def test_a_test_file_is_used_without_a_training_file(tmp_path: Path) -> None:
    rows = "".join(f'{{"sentence": "s{index}", "label": {index % 2}, "idx": {index}}}\n' for index in range(20))
    hub = hub_folder(tmp_path / "set", train=rows, test='{"sentence": "t", "label": 1, "idx": 0}\n')
    (tmp_path / "own.tsv").write_text("mine\t0\n")
    recipe = Recipe(base="b", out="o", task="sst2", test_file=str(tmp_path / "own.tsv"))
    splits = read_splits(recipe, replace(TASKS["sst2"], hub=hub))
    assert splits.test == [Example(("mine",), "negative")]
    assert splits.source.keys() == {"train", "test", str(tmp_path / "own.tsv")}


def test_a_task_without_a_set_needs_a_file() -> None:
    recipe = Recipe(base="b", out="o")
    with pytest.raises(DataError, match="task classification needs --train-file"):
        read_splits(recipe, task_of(recipe))


def test_a_pair_column_for_a_task_of_one_text_is_refused() -> None:
    with pytest.raises(DataError, match="takes one text: leave out --pair-column"):
        task_of(Recipe(base="b", out="o", pair_column="other"))


def rare_labels(folder: Path) -> Path:
    """Write 6 examples of two labels and one of a third."""
    rows = [f"t{index},{'ab'[index % 2]}" for index in range(6)]
    return write(folder, "rare.csv", "\n".join(["text,label", *rows, "t6,rare"]) + "\n")


def test_a_label_with_a_single_example_is_trained_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = rare_labels(tmp_path)
    usual = write(tmp_path, "usual.csv", "text,label\nv0,a\nv1,b\n")
    for validation in (None, str(usual)):
        recipe = Recipe(base="b", out="o", train_file=str(file), validation_file=validation)
        splits = read_splits(recipe, task_of(recipe))
        assert splits.labels == ["a", "b", "rare"]
        assert [one.texts for one in splits.train if one.target == "rare"] == [("t6",)]
        assert {one.target for one in splits.validation} == {"a", "b"}
        assert "no validation example for 1 labels" in caplog.messages.pop()


def test_a_limit_below_the_number_of_labels_trains_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(base="b", out="o", train_file=str(rare_labels(tmp_path)), train_limit=2)
    splits = read_splits(recipe, task_of(recipe))
    assert len({one.target for one in splits.train}) == len(splits.train) == 2
    assert splits.labels == ["a", "b", "rare"]
    assert "no training example for 1 labels, which are not learned" in caplog.text
