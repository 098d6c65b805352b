"""What users expect of a trainer: it stops, resumes, reports, and tells what went wrong."""

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
import torch
from transformers import TrainerCallback

from adamix_train.artifacts.checkpoint import read_card, whole_checkpoints
from adamix_train.errors import CheckpointError, DataError, Interrupted, RecipeError, TrainingError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.sweep import sweep
from adamix_train.run.train import train
from tests.adamix_train.conftest import make_base
from tests.adamix_train.run.test_train import assert_equal, weights

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TWO_PROCESSES = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Recipe:
    return Recipe(
        base=str(tiny_base),
        train_file=str(tiny_data),
        test_file=str(tiny_data),
        out=str(tmp_path / "run"),
        validation_share=0.25,
        kind="lora",
        r=4,
        epochs=4,
        batch_size=8,
        learning_rate=1e-2,
        max_length=16,
        report_to="none",
    )


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "results.json").read_text())["history"]
    return [entry["loss"] for entry in history if "loss" in entry]


class Signal(TrainerCallback):
    """Sends this process a signal after a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("number", "bucketing"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_ctrl_c_in_the_middle_of_an_epoch_keeps_a_checkpoint_that_resumes_to_the_same_weights(
    recipe: Recipe, tmp_path: Path, number: int, bucketing: bool
) -> None:
    recipe = replace(recipe, length_bucketing=bucketing)
    train(replace(recipe, out=str(tmp_path / "whole")))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 7; go on with --resume"):
        train(recipe, callbacks=[Signal(step=6, number=number)])
    assert signal.getsignal(number) is before
    assert whole_checkpoints(Path(recipe.out))[-1].name == "checkpoint-7"
    assert not (Path(recipe.out) / "results.json").exists()
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))


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


class Dies(TrainerCallback):
    """Ends a run as a kill does, without a word."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(recipe: Recipe, tmp_path: Path) -> None:
    train(replace(recipe, out=str(tmp_path / "whole"), report_to="none"))
    with pytest.raises(KeyboardInterrupt):
        train(replace(recipe, report_to="tensorboard"), callbacks=[Dies()])
    with pytest.raises(RecipeError, match="is not empty: give another --out, or --resume"):
        train(recipe)
    with pytest.raises(RecipeError, match=r"r is 2, but the run in .* was started with 4"):
        train(replace(recipe, r=2), resume=True)
    train(recipe, resume=True)
    assert_equal(weights(recipe.out), weights(tmp_path / "whole"))


def test_patience_is_resumed(recipe: Recipe) -> None:
    recipe = replace(recipe, learning_rate=0.0, epochs=10, early_stopping=2)
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=11, number=signal.SIGINT)])
    assert train(recipe, resume=True)["steps"] == 3 * 5


def test_a_run_is_not_resumed_with_more_processes_in_silence(recipe: Recipe) -> None:
    with pytest.raises(Interrupted):
        train(recipe, callbacks=[Signal(step=6, number=signal.SIGINT)])
    (whole_checkpoints(Path(recipe.out))[-1] / "rng_state_0.safetensors").unlink()
    with pytest.raises(CheckpointError, match="was written by fewer processes: resume it with as many"):
        train(recipe, resume=True)


ONE_SIGNAL = """
import os, signal, sys
from pathlib import Path
from adamix_train import train
from adamix_train.errors import Interrupted
from adamix_train.recipe.flags import make_recipe
from transformers import TrainerCallback

class Signal(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 6 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)

try:
    train(make_recipe(Path(sys.argv[1]), {}), callbacks=[Signal()])
except Interrupted as error:
    sys.exit(str(error))
"""


def test_a_signal_to_one_of_several_processes_stops_all_with_a_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps(vars(replace(recipe, batch_size=4))))
    (tmp_path / "one_signal.py").write_text(ONE_SIGNAL)
    command = [*TORCHRUN, str(tmp_path / "one_signal.py"), str(tmp_path / "r.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, env=TWO_PROCESSES, timeout=100)
    assert result.returncode != 0
    assert "interrupted after step 7; go on with --resume" in result.stderr
    assert whole_checkpoints(Path(recipe.out))[-1].name == "checkpoint-7"


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


@pytest.mark.parametrize("routing", ["batch", "example"])
def test_two_processes_train_as_one_with_the_same_global_batch(
    recipe: Recipe, tmp_path: Path, tiny_data: Path, routing: str
) -> None:
    base = make_base(tmp_path / "base", seed=0, dropout=0.0)
    recipe = replace(recipe, base=str(base), routing=routing, validation_share=1 / 3, epochs=3, kind="houlsby")
    train(replace(recipe, out=str(tmp_path / "one"), batch_size=16))
    (tmp_path / "r.yaml").write_text(json.dumps(vars(replace(recipe, out=str(tmp_path / "two")))))
    command = [*TORCHRUN, "-m", "adamix_train.cli", str(tmp_path / "r.yaml")]
    subprocess.run(command, check=True, capture_output=True, env=TWO_PROCESSES)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-3)


def test_early_stopping_ends_a_run_that_gets_no_better(recipe: Recipe) -> None:
    results = train(replace(recipe, learning_rate=0.0, epochs=10, early_stopping=2))
    assert results["steps"] == 3 * 5


def test_bf16_and_checkpointing_and_accumulation_train_together(recipe: Recipe, tmp_path: Path) -> None:
    settings = {"precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation": 2}
    results = train(replace(recipe, length_bucketing=True, epochs=12, **settings))
    assert results["steps"] == 12 * 3
    assert results["test_accuracy"] > 0.9
    train(replace(recipe, out=str(tmp_path / "fp32"), length_bucketing=True, epochs=12))
    assert not torch.equal(
        *(weights(folder)["base_model.model.classifier.weight"] for folder in (recipe.out, tmp_path / "fp32"))
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_fp16_without_a_gpu_is_told(recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match="fp16 needs a GPU: choose bf16 or fp32"):
        train(replace(recipe, precision="fp16"))


def test_a_run_reports_to_tensorboard_and_draws_its_curve(recipe: Recipe) -> None:
    assert Recipe(base="b", out="o").report_to == "tensorboard"
    train(replace(recipe, report_to="tensorboard", epochs=1))
    out = Path(recipe.out)
    assert list(out.rglob("events.out.tfevents.*"))
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_few_shots_are_stratified_and_hold_out_as_many(recipe: Recipe) -> None:
    results = train(replace(recipe, shots=5, epochs=1))
    assert (results["train_examples"], results["validation_examples"]) == (10, 10)


def test_a_truncated_example_is_counted_or_refused(recipe: Recipe) -> None:
    results = train(replace(recipe, max_length=5, epochs=1))
    assert results["truncated_examples"] == 48 * 2
    with pytest.raises(DataError, match="has 6 tokens and max_length is 5"):
        train(replace(recipe, out=recipe.out + "2", max_length=5, strict=True))


def test_a_sweep_trains_every_seed_once_and_tells_the_spread(recipe: Recipe) -> None:
    recipe = replace(recipe, epochs=1)
    first = sweep(recipe, [0, 1])
    accuracies = [train_results(recipe, seed)["test_accuracy"] for seed in (0, 1)]
    assert first["metrics"]["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    stamp = (Path(recipe.out) / "seed-0" / "results.json").stat().st_mtime_ns
    assert sweep(recipe, [0, 1, 2])["seeds"] == [0, 1, 2]
    assert (Path(recipe.out) / "seed-0" / "results.json").stat().st_mtime_ns == stamp
    with pytest.raises(RecipeError, match=r"r is 2, but the run in .*seed-0 was started with 4"):
        sweep(replace(recipe, r=2), [0])
    sweep(replace(recipe, report_to="tensorboard"), [0])


def test_an_interrupted_sweep_goes_on_when_it_is_repeated(recipe: Recipe) -> None:
    with pytest.raises(Interrupted, match="at seed 0; repeat the command to continue the sweep"):
        sweep(recipe, [0], callbacks=[Signal(step=6, number=signal.SIGINT)])
    assert sweep(recipe, [0])["seeds"] == [0]


def train_results(recipe: Recipe, seed: int) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((Path(recipe.out) / f"seed-{seed}" / "results.json").read_text())
    return results
