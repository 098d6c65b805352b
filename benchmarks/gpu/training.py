"""A training step of AdaMix in bf16 against one of PEFT's LoRA, as `benchmarks.train_step` defines them."""

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from adamix_train.base_model.load import load_classifier
from benchmarks.gpu.checkpoints import LABELS
from benchmarks.gpu.classification import table_of
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.shapes import quieten
from benchmarks.support.report import Row
from benchmarks.support.rounds import Call, Timings, measure
from benchmarks.train_step import PEER, WEIGHTS, Step, adamix_step, lora_step

CASES = {"minilm": (32, 128), "roberta-large": (32, 128)}
"""Rows and tokens of a batch by model."""
TINY_CASE = (2, 8)


def measure_training(setting: Setting) -> Outcome:
    """Time the steps of all sides, interleaved."""
    quieten()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in CASES:
            timings: Timings = measure(_sides(model, scratch, setting), setting.pace)
            rows += table_of(timings, model)
    return Outcome(
        rows=rows,
        notes=["Milliseconds are of forward, backward and AdamW under bf16 autocast; PEFT's LoRA is the first side."],
    )


def _sides(model: str, scratch: str, setting: Setting) -> dict[str, dict[str, Call]]:
    folder = setting.require(setting.merged(model))
    steps: dict[str, Step] = {PEER: lora_step(scratch, _base(folder), bf16=True)}
    for side, weight in WEIGHTS.items():
        steps[side] = adamix_step(scratch, weight, _base(folder), bf16=True)
    count, tokens = TINY_CASE if setting.tiny else CASES[model]
    batch = {name: tensor.to(setting.device) for name, tensor in _batch(count, tokens, setting).items()}
    return {f"bf16, {count}x{tokens}": {side: partial(_step, step, batch, setting) for side, step in steps.items()}}


def _base(folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    return load_classifier(folder, list(LABELS))


def _batch(count: int, tokens: int, setting: Setting) -> dict[str, Tensor]:
    """Return token ids (count, tokens) with a full mask, and labels (count,)."""
    torch.manual_seed(0)
    ids = torch.randint(5, 200 if setting.tiny else 20000, (count, tokens))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.randint(0, 2, (count,))}


def _step(step: Step, batch: dict[str, Tensor], setting: Setting) -> object:
    loss = step(batch)
    if setting.provider == "cuda":
        torch.cuda.synchronize()
    return loss
