"""Runs of adamix-train by the method that trained them."""

import shutil
from pathlib import Path

import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
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


def test_a_mixture_that_a_loop_of_ones_own_saved_needs_facts_alone(lora: Path, tmp_path: Path) -> None:
    """`save_pretrained` of an AdaMix model writes no card: labels and the base are given instead."""
    run = open_checkpoint(str(lora))
    own = Path(shutil.copytree(lora, tmp_path / "own"))
    (own / "adamix.json").unlink()
    found = open_checkpoint(str(own), base=str(run.base), facts=Facts(labels=tuple(run.labels), max_length=16))
    assert (found.kind, found.num_modules, found.card.max_length) == ("lora", run.num_modules, 16)
    assert found.adapter.keys() == run.adapter.keys()
    assert all(torch.equal(tensor, run.adapter[name]) for name, tensor in found.adapter.items())
