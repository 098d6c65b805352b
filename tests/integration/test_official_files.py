"""The official files of the sets, read as they are published."""

import os
from collections import Counter
from pathlib import Path

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.splits import read_all, read_splits, task_of
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS

COLA_DEV = ["cola/in_domain_dev.tsv", "cola/out_of_domain_dev.tsv"]
"""GLUE's development set is the two files together."""
DATA = Path(os.environ.get("ADAMIX_DATA", "../shared/data"))


def examples(task: str, *names: str) -> list[Example]:
    files = [DATA / name for name in names]
    for file in files:
        if not file.is_file():
            pytest.skip(f"{file} is missing: set ADAMIX_DATA to the folder that has it")
    return read_all(",".join(map(str, files)), TASKS[task])


@pytest.mark.parametrize(
    ("task", "names", "count", "labels"),
    [
        ("sst2", ["sst2/train.tsv"], 6920, {"negative": 3310, "positive": 3610}),
        ("cola", ["cola/in_domain_train.tsv"], 8551, {"acceptable": 6023, "unacceptable": 2528}),
        ("cola", COLA_DEV, 1043, {"acceptable": 719, "unacceptable": 324}),
        ("mrpc", ["mrpc/train.txt"], 4076, {"equivalent": 2753, "different": 1323}),
        ("mrpc", ["mrpc/test.txt"], 1725, {"equivalent": 1147, "different": 578}),
    ],
)  # fmt: skip
def test_sets_of_labels_are_read_to_the_last_row(
    task: str, names: list[str], count: int, labels: dict[str, int]
) -> None:
    found = examples(task, *names)
    assert len(found) == count
    assert Counter(example.target for example in found) == labels
    assert all(len(example.texts) == len(TASKS[task].inputs) for example in found)


@pytest.mark.parametrize(
    ("task", "name", "count", "inputs"),
    [
        ("e2e_nlg", "e2e/devset.csv", 4672, 547),
        ("e2e_nlg", "e2e/testset_w_refs.csv", 4693, 630),
        ("web_nlg", "webnlg/dev.json", 2258, 870),
    ],
)
def test_sets_of_texts_are_read_to_the_last_row(task: str, name: str, count: int, inputs: int) -> None:
    found = examples(task, name)
    assert len(found) == count
    assert len({example.texts for example in found}) == inputs


def test_inputs_of_e2e_that_are_held_out_are_not_trained_on() -> None:
    examples("e2e_nlg", "e2e/devset.csv")
    recipe = Recipe(
        base="b", out="o", task="e2e_nlg", train_file=str(DATA / "e2e/devset.csv"), validation_share=47 / 547
    )
    splits = read_splits(recipe, task_of(recipe))
    train, held = ({example.texts for example in part} for part in (splits.train, splits.validation))
    assert len(held) == 47
    assert not train & held
