"""Means over steps, against means computed by hand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from adamix_train.artifacts.checkpoint import STEP_AVERAGE
from adamix_train.errors import CheckpointError
from adamix_train.recipe.average import Average
from adamix_train.training.step_average import StepAverage

STEPS = 8


class Run:
    """Eight steps, after which the only trained weight is the square of the step's number."""

    def __init__(self, folder: Path) -> None:
        self.args = SimpleNamespace(output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, max_steps=STEPS, is_world_process_zero=True)
        self.model = nn.Linear(1, 1)
        self.model.bias.requires_grad_(False)

    def go(self, callback: StepAverage, first: int, last: int) -> None:
        self.state.global_step = first
        callback.on_train_begin(self.args, self.state, None)
        for step in range(first + 1, last + 1):
            self.state.global_step = step
            self.model.weight.data.fill_(step**2)
            self.model.bias.data.fill_(step)
            callback.on_step_end(self.args, self.state, None, model=self.model)

    def save(self, callback: StepAverage) -> Path:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir()
        callback.on_save(self.args, self.state, None)
        return folder

    def end(self, callback: StepAverage) -> float:
        callback.on_train_end(self.args, self.state, None, model=self.model)
        return float(self.model.weight)


EXPECTED = {
    "last:0.25": (49 + 64) / 2,
    "last:0.5": (25 + 36 + 49 + 64) / 4,
    "last:1": (1 + 4 + 9 + 16 + 25 + 36 + 49 + 64) / 8,
    "last:0.01": 64.0,
    "ema:0.5": 1 / 128 + 4 / 128 + 9 / 64 + 16 / 32 + 25 / 16 + 36 / 8 + 49 / 4 + 64 / 2,
}


@pytest.mark.parametrize("rule", EXPECTED)
def test_the_mean_over_steps_replaces_the_weights_at_the_end(rule: str, tmp_path: Path) -> None:
    run, callback = Run(tmp_path), StepAverage(Average.parse(rule))
    run.go(callback, 0, STEPS)
    assert run.end(callback) == pytest.approx(EXPECTED[rule])
    assert float(run.model.bias) == STEPS, "a frozen weight is not touched"


@pytest.mark.parametrize("rule", EXPECTED)
@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_resumed_run_ends_with_the_same_mean(rule: str, stop: int, tmp_path: Path) -> None:
    run, callback = Run(tmp_path), StepAverage(Average.parse(rule))
    run.go(callback, 0, stop)
    resumed = StepAverage(Average.parse(rule), run.save(callback))
    run.go(resumed, stop, STEPS)
    assert run.end(resumed) == pytest.approx(EXPECTED[rule])


def test_a_checkpoint_that_lost_its_mean_is_not_resumed(tmp_path: Path) -> None:
    run, callback = Run(tmp_path), StepAverage(Average.parse("ema:0.5"))
    run.go(callback, 0, 3)
    folder = run.save(callback)
    (folder / STEP_AVERAGE).unlink()
    with pytest.raises(CheckpointError, match=r"step_average\.safetensors is missing"):
        run.go(StepAverage(Average.parse("ema:0.5"), folder), 3, STEPS)


def test_the_mean_is_kept_in_full_precision(tmp_path: Path) -> None:
    run, callback = Run(tmp_path), StepAverage(Average.parse("last:1"))
    run.model.to(torch.bfloat16)
    run.go(callback, 0, 3)
    assert next(iter(callback.mean.values())).dtype == torch.float32


def test_a_run_that_stopped_before_its_mean_began_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, callback = Run(tmp_path), StepAverage(Average.parse("last:0.25"))
    run.go(callback, 0, 3)
    assert run.end(callback) == 9
    assert "ended after 3 of 8 steps, before the mean over the last of them began" in caplog.text
