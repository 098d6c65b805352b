from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.splits import read_splits
from adamix_train.errors import DataError
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS, Hub
from tests.fixtures.example_files import hub_folder


def test_a_set_of_labels_is_read_by_name(tmp_path: Path) -> None:
    rows = "".join(f'{{"sentence": "s{index}", "label": {index % 2}, "idx": {index}}}\n' for index in range(20))
    hub = hub_folder(tmp_path / "set", train=rows, test='{"sentence": "t", "label": 1, "idx": 0}\n')
    splits = read_splits(Recipe(base="b", out="o", task="sst2"), replace(TASKS["sst2"], hub=hub))
    assert splits.labels == ["negative", "positive"]
    assert splits.test == [Example(("t",), "positive")]
    assert (len(splits.train), len(splits.validation)) == (18, 2)
    assert splits.source.keys() == {"train", "test"}


def test_a_set_of_triples_is_read_with_all_references(tmp_path: Path) -> None:
    train = "".join(
        f'{{"input": ["A{index} | p_q | B"], "target": "said {index}", "references": ["said"]}}\n' for index in range(5)
    )
    test = '{"input": ["A | p | B", "B | q | C"], "target": "x", "references": ["one", "two"]}\n'
    hub = replace(hub_folder(tmp_path / "set", train=train, test=test), references="references")
    splits = read_splits(Recipe(base="b", out="o", task="web_nlg"), replace(TASKS["web_nlg"], hub=hub))
    assert splits.test == [Example(("A : p : B | B : q : C",), text) for text in ("one", "two")]
    assert all(example.texts[0].endswith(" : p q : B") for example in splits.train)


def test_a_set_that_is_not_available_says_what_to_do(tmp_path: Path) -> None:
    task = replace(TASKS["sst2"], hub=Hub(path=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"is not available from the Hub .* give its official files with --train-file"):
        read_splits(Recipe(base="b", out="o", task="sst2"), task)
