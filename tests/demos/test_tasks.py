from collections import Counter
from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.recipe.flags import make_recipe
from adamix_train.tasks.table import TASKS as KINDS_OF_TASK
from demos.tasks import DATA, TASKS, recipe


@pytest.mark.parametrize("task", TASKS)
def test_train_and_test_share_labels_and_no_text(task: str) -> None:
    train, test = (
        read_examples(DATA / task / f"{split}.csv", KINDS_OF_TASK["classification"]) for split in ("train", "test")
    )
    assert len(train) >= 300
    assert len(test) >= 100
    assert {example.target for example in train} == {example.target for example in test}
    counts = Counter(example.target for example in train)
    assert max(counts.values()) == min(counts.values())
    texts = [example.texts[0].casefold() for example in (*train, *test)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("task", TASKS)
def test_its_recipe_is_one(task: str) -> None:
    made = make_recipe(None, recipe(task, base=Path("base"), out=Path("out")))
    assert made.test_file
    assert made.validation_file is None, "the test file is never selected on"


def test_the_demo_has_an_adapter_of_each_kind() -> None:
    assert {fields["kind"] for fields in TASKS.values()} == {"houlsby", "lora"}
