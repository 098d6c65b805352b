import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from adamix_train.artifacts.checkpoint import read_card, whole_checkpoints
from adamix_train.errors import TrainingError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.training import assert_equal, weights


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(recipe: Recipe) -> None:
    with pytest.raises(
        TrainingError, match=r"the (eval_)?loss is (nan|inf) at step \d+: the last good checkpoint is .*checkpoint"
    ):
        train(replace(recipe, learning_rate=1e36, warmup_ratio=0.9, epochs=20, eval_steps=1))
    kept = whole_checkpoints(Path(recipe.out))[-1]
    assert all(weight.isfinite().all() for weight in weights(kept).values())
    assert read_card(kept).labels == ["negative", "positive"]


class Poison(TrainerCallback):
    """Makes a weight NaN at a step in which the user interrupts."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 7:
            next(weight for weight in model.parameters() if weight.requires_grad).data.view(-1)[0] = float("nan")
            os.kill(os.getpid(), signal.SIGINT)


def test_weights_that_are_no_numbers_are_no_checkpoint(recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match=r"is nan at step \d+: the last good checkpoint is .*checkpoint-5"):
        train(recipe, callbacks=[Poison()])
    assert [path.name for path in whole_checkpoints(Path(recipe.out))] == ["checkpoint-5"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from adamix_train import train
from adamix_train.errors import CheckpointError
from adamix_train.recipe.flags import make_recipe
from transformers import TrainerCallback

class Full(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

try:
    train(make_recipe(Path(sys.argv[1]), {}), callbacks=[Full()])
except CheckpointError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
def test_a_disk_that_fills_leaves_the_previous_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    (tmp_path / "r.yaml").write_text(json.dumps(vars(recipe)))
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "r.yaml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "checkpoint-10 could not be written" in last
    assert "the last good checkpoint is" in last
    assert [path.name for path in Path(recipe.out).glob("checkpoint-*")] == ["checkpoint-5"]
    train(recipe, resume=True)
    train(replace(recipe, out=str(tmp_path / "whole")))
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))
