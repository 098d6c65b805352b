import signal
from dataclasses import replace
from pathlib import Path

import pytest

from adamix_train.artifacts.checkpoint import whole_checkpoints
from adamix_train.errors import Interrupted
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from tests.fixtures.training import Signal, assert_equal, weights


@pytest.mark.parametrize(("number", "bucketing"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_ctrl_c_in_the_middle_of_an_epoch_keeps_a_checkpoint_that_resumes_to_the_same_weights(
    recipe: Recipe, tmp_path: Path, number: int, bucketing: bool
) -> None:
    recipe = replace(recipe, length_bucketing=bucketing)
    train(replace(recipe, out=str(tmp_path / "whole")))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 7; repeat the command with --resume") as stopped:
        train(recipe, callbacks=[Signal(step=6, number=number)])
    assert stopped.value.signal == number
    assert signal.getsignal(number) is before
    assert whole_checkpoints(Path(recipe.out))[-1].name == "checkpoint-7"
    assert not (Path(recipe.out) / "results.json").exists()
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))
