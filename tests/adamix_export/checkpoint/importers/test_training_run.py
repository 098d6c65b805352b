"""Runs of adamix-train by the method that trained them."""

from pathlib import Path

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import ExportError
from adamix_train.run.train import train
from tests.fixtures.training import small_recipe

pytestmark = pytest.mark.slow
INPUTS = {"input_ids": torch.tensor([[2, 12, 5, 13, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}


def test_a_run_of_pefts_lora_is_an_adapter_with_a_card(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(small_recipe(tiny_base, tiny_data, tmp_path / "run", method="peft-lora", epochs=1))
    run = open_checkpoint(str(tmp_path / "run"))
    assert (run.kind, run.r, run.labels, run.card.max_length) == ("lora", 4, ["negative", "positive"], 16)
    with torch.inference_mode():
        difference = run.merged()(**INPUTS).logits - run.reference(**INPUTS).logits
    assert difference.abs().max() < 1e-5
    assert any(name.endswith("lora.up.weight") for name in run.adapter)


def test_a_run_of_a_method_that_is_not_exported_is_named(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(small_recipe(tiny_base, tiny_data, tmp_path / "run", method="head", epochs=1))
    with pytest.raises(ExportError, match="was trained with method head; export takes adamix, peft-lora"):
        open_checkpoint(str(tmp_path / "run"))
