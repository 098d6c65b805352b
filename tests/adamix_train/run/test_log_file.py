import json
import signal
from pathlib import Path
from typing import Any

import pytest

from adamix_train.errors import Interrupted
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.log_file import LOG
from adamix_train.run.train import train
from tests.fixtures.training import Signal


def logged(recipe: Recipe) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(recipe.out) / LOG).read_text().splitlines()]


def test_a_run_that_was_stopped_and_resumed_has_logged_every_entry_once(recipe: Recipe) -> None:
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=6, number=signal.SIGTERM)])
    assert {entry["step"] for entry in logged(recipe)} == {5}
    results = train(recipe, resume=True)
    entries = logged(recipe)
    assert {entry.pop("max_steps") for entry in entries} == {10}
    assert entries == results["history"]
    assert [entry["step"] for entry in entries if "loss" in entry] == [5, 10]
