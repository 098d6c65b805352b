from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.splits import read_splits, task_of
from adamix_train.errors import DataError
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS
from tests.fixtures.example_files import hub_folder


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
