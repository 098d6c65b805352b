from pathlib import Path

import pytest

from adamix_train.data.examples import Example
from adamix_train.data.held_out import read_held_out, save_held_out
from adamix_train.data.splits import task_of
from adamix_train.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("fields", "examples"),
    [
        ({"text_column": "message"}, [Example(('say "hi"\nthere',), "a"), Example(("ü",), "1")]),
        ({"task": "pair-regression"}, [Example(("one", "other"), "0.5")]),
        ({"task": "sst2"}, [Example(("fine",), "positive")]),
        ({"task": "mrpc"}, [Example(("", "fine"), "equivalent")]),
        ({"task": "mnli"}, [Example(("it", "is"), "neutral")]),
        ({"task": "e2e_nlg"}, [Example(("name[A]",), "A."), Example(("name[A]",), "It is A.")]),
    ],
)
def test_held_out_examples_are_read_back(tmp_path: Path, fields: dict[str, str], examples: list[Example]) -> None:
    task = task_of(Recipe(base="b", out="o", **fields))
    save_held_out(examples, task, tmp_path)
    assert read_held_out(task, tmp_path) == examples


def test_a_run_that_kept_none_has_none(tmp_path: Path) -> None:
    assert read_held_out(task_of(Recipe(base="b", out="o")), tmp_path) == []
