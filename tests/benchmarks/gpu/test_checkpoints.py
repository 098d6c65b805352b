from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks.gpu.checkpoints import make_checkpoint, make_weights
from benchmarks.gpu.models import BUNDLES, MODELS
from benchmarks.gpu.setting import Setting

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["roberta-large-merged", "smollm2-bank"])
def test_a_checkpoint_is_the_same_each_time_and_its_adapter_does_something(
    name: str, made: Setting, tmp_path: Path
) -> None:
    plan = BUNDLES[name]
    base = made.base(plan.model)
    for run in ("one", "two"):
        make_checkpoint(plan, MODELS[plan.model], base, tmp_path / run)
    one, two = (open_checkpoint(str(tmp_path / run)).adapter for run in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(float(tensor.abs().max()) > 0 for key, tensor in one.items() if "lora" in key)


def test_weights_that_are_there_are_kept(made: Setting) -> None:
    base = made.base("smollm2")
    before = load_file(base / "model.safetensors")
    make_weights(MODELS["smollm2"], base)
    after = load_file(base / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
