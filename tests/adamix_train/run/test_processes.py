import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from adamix_train.artifacts.checkpoint import whole_checkpoints
from adamix_train.run.train import train
from tests.adamix_train.conftest import make_base
from tests.fixtures.training import small_recipe, weights

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ROUTINGS = ("batch", "example")
NEVER = 0
SIGNALS = {1: 2, 4: 4}
"""Step after which a signal comes → step of the checkpoint: within an epoch of four steps, and before the evaluation
that ends it."""
SCRIPT = """
import json, os, signal, sys
from adamix_train import Recipe, train
from adamix_train.errors import Interrupted
from transformers import TrainerCallback

class Signal(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)

messages = []
for fields, step in json.loads(sys.argv[1]):
    try:
        train(Recipe(**fields), callbacks=[Signal(step)])
    except Interrupted as error:
        messages.append(str(error))
sys.exit(" ".join(messages))
"""


@dataclass(frozen=True)
class Launch:
    """Runs of two processes, and what their launcher left."""

    folder: Path
    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def launch(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Train in one process; then in two: with every routing, and until the second receives a signal after a step."""
    folder = tmp_path_factory.mktemp("processes")
    base = make_base(folder / "base", seed=0, dropout=0.0)
    fields = {"kind": "houlsby", "validation_share": 1 / 3, "epochs": 3, "eval_steps": 2, "learning_rate": 1e-2}
    recipe = small_recipe(base, tiny_data, folder, **fields)
    for routing in ROUTINGS:
        train(replace(recipe, routing=routing, out=str(folder / f"one-{routing}"), batch_size=16))
    runs = [(replace(recipe, routing=routing, out=str(folder / f"two-{routing}")), NEVER) for routing in ROUTINGS]
    runs += [
        (replace(recipe, batch_size=4, eval_steps=4, out=str(folder / f"signal-{step}")), step) for step in SIGNALS
    ]
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [*TORCHRUN, str(script), json.dumps([(vars(run), step) for run, step in runs])]
    return Launch(folder, subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=100))


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "results.json").read_text())["history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("routing", ROUTINGS)
def test_two_processes_train_as_one_with_the_same_global_batch(launch: Launch, routing: str) -> None:
    one, two = (launch.folder / f"{count}-{routing}" for count in ("one", "two"))
    assert two.is_dir(), launch.result.stderr
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    expected = weights(one)
    for name, weight in weights(two).items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("signalled", "stopped"), SIGNALS.items())
def test_a_signal_to_one_of_several_processes_stops_all_with_a_checkpoint(
    launch: Launch, signalled: int, stopped: int
) -> None:
    out = launch.folder / f"signal-{signalled}"
    assert launch.result.returncode != 0
    message = f"interrupted after step {stopped}; repeat the command with --resume to go on"
    assert launch.result.stderr.count(message) == 2, "each process ends so"
    assert whole_checkpoints(out)[-1].name == f"checkpoint-{stopped}"
