from collections import Counter

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.sampling import first_of_each, split_off
from adamix_train.errors import DataError
from adamix_train.tasks.kinds import TASK_KINDS
from tests.fixtures.example_files import one


def test_a_sample_is_stratified_seeded_and_loses_nothing() -> None:
    examples = [one(f"{label}{index}", label) for label in "xyz" for index in range(20)]

    def draw(seed: int) -> tuple[list[Example], list[Example]]:
        return split_off(examples, TASK_KINDS["classification"], count=lambda size: size // 10, seed=seed, what="test")

    kept, drawn = draw(0)
    assert Counter(example.target for example in drawn) == {"x": 2, "y": 2, "z": 2}
    assert sorted((*kept, *drawn), key=str) == sorted(examples, key=str)
    assert draw(0) == (kept, drawn)
    assert draw(1)[1] != drawn


def test_references_of_one_input_stay_together() -> None:
    examples = [one(f"input {index}", f"wording {number}") for index in range(10) for number in range(3)]
    kept, drawn = split_off(examples, TASK_KINDS["generation"], count=lambda size: 4, seed=0, what="test")
    assert len(drawn) == 12
    assert not {example.texts for example in drawn} & {example.texts for example in kept}


def test_too_few_examples_for_a_sample_are_refused() -> None:
    with pytest.raises(DataError, match="label 'x' has one example; --shots takes 1 of them and must leave some"):
        split_off(
            [one("a", "x"), one("b", "y"), one("c", "y")],
            TASK_KINDS["classification"],
            count=lambda _: 1,
            seed=0,
            what="--shots",
        )


def test_a_label_with_one_example_stays_in_the_training_data_unless_the_count_is_exact() -> None:
    examples = [one("a", "x"), *(one(f"{index}", "y") for index in range(3))]
    kept, drawn = split_off(
        examples, TASK_KINDS["classification"], count=lambda size: size, seed=0, what="test", exact=False
    )
    assert [example.target for example in kept] == ["x", "y"]
    assert [example.target for example in drawn] == ["y", "y"]


def test_labels_that_have_one_example_each_leave_nothing_to_sample() -> None:
    examples = [one("a", "x"), one("b", "y")]
    kind = TASK_KINDS["classification"]
    with pytest.raises(DataError, match="each label has one example; the validation data takes some"):
        split_off(examples, kind, count=lambda size: 1, seed=0, what="the validation data", exact=False)


def test_a_limit_keeps_an_example_of_each_label_as_far_as_it_goes() -> None:
    examples = [one(f"{index}", "abcdefgh"[max(0, index - 92)]) for index in range(100)]
    kind = TASK_KINDS["classification"]
    assert first_of_each(examples, 10, kind) == [*examples[:3], *examples[93:]]
    assert len({example.target for example in first_of_each(examples, 5, kind)}) == 5
    assert first_of_each(examples[::-1], 50, kind) == examples[::-1][:50]
    assert first_of_each(examples, None, kind) == examples
    assert first_of_each(examples, 10, TASK_KINDS["generation"]) == examples[:10]
