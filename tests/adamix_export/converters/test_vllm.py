"""vLLM, in its own environment, writes with our collapsed LoRA what PyTorch writes."""

import json
from pathlib import Path

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.table import convert
from tests.adamix_export.conftest import Exports
from tests.adamix_export.converters.peer import peer
from tests.adamix_train.conftest import make_writer
from tests.fixtures.generation_banks import generative_checkpoint

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("vllm_greedy.py")
PROMPTS = [[5, 7, 9, 4], [12, 8, 5], [6, 6, 10, 11, 4, 13]]
NEW = 12
HEAD_WIDTH = 32
"""The smallest that vLLM's attention has on a CPU."""


def greedy(model: torch.nn.Module) -> list[list[int]]:
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return [model.generate(torch.tensor([ids]), **settings)[0, len(ids) :].tolist() for ids in PROMPTS]


def test_vllm_writes_the_same_greedy_tokens(exported: Exports, writing_data: Path, tmp_path: Path) -> None:
    vllm = peer("vllm")
    base = make_writer(tmp_path / "base", "llama", head_dim=HEAD_WIDTH)
    run = generative_checkpoint(tmp_path / "run", base, writing_data, kind="lora", seed=2)
    convert(exported("merged", str(run)), tmp_path / "peft", "peft")
    job, out = tmp_path / "job.json", tmp_path / "written.json"
    job.write_text(json.dumps({"prompts": PROMPTS, "new": NEW}))
    vllm.run(str(SCRIPT), base, tmp_path / "peft", job, out)
    source = open_checkpoint(str(run))
    expected, unchanged = greedy(source.merged()), greedy(source.base_model())
    assert json.loads(out.read_text()) == [expected, unchanged]
    assert expected != unchanged, "the base alone would pass"
