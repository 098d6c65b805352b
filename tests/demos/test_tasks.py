from collections import Counter
from pathlib import Path

import pytest

from adamix_train.data.examples import read_examples
from adamix_train.recipe.flags import make_recipe
from adamix_train.tasks.table import TASKS as KINDS_OF_TASK
from demos.records import FIELD, read_records
from demos.tasks import BUNDLES, DATA, GENERATION_TASKS, TASKS, data_file, recipe


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


@pytest.mark.parametrize("task", GENERATION_TASKS)
def test_every_value_of_a_record_is_in_its_text_and_test_records_are_new(task: str) -> None:
    train, test = (read_records(data_file(task, split)) for split in ("train", "test"))
    assert (len(train), len(test)) >= (200, 40)
    for record in (*train, *test):
        fields = FIELD.findall(record.input)
        assert ", ".join(f"{name}[{value}]" for name, value in fields) == record.input
        assert len(dict(fields)) == len(fields) >= 2
        assert [value for value in record.values if value.casefold() not in record.target.casefold()] == []
    for column in ("input", "target"):
        texts = [getattr(record, column).casefold() for record in (*train, *test)]
        assert len(set(texts)) == len(texts)
    names = [dict(FIELD.findall(record.input)).get("name") for record in (*train, *test)]
    known = [name for name in names if name]
    assert len(set(known)) == len(known), "no event occurs twice, so that none of the test is in the training"


def test_records_differ_in_their_fields_and_their_order() -> None:
    records = read_records(data_file("events", "train"))
    orders = [tuple(name for name, _ in FIELD.findall(record.input)) for record in records]
    assert len({frozenset(order) for order in orders}) > 60
    assert len(set(orders)) > 120
    openings = Counter(" ".join(record.target.split()[:2]) for record in records)
    assert openings.most_common(1)[0][1] < 10, "texts do not begin alike"


@pytest.mark.parametrize("task", [task for bundle in BUNDLES.values() for task in bundle.tasks])
def test_its_recipe_is_one(task: str) -> None:
    made = make_recipe(None, recipe(task, base=Path("base"), out=Path("out")))
    assert made.test_file
    assert made.validation_file is None, "the test file is never selected on"


def test_the_demo_has_an_adapter_of_each_kind() -> None:
    assert {fields["kind"] for fields in TASKS.values()} == {"houlsby", "lora"}
