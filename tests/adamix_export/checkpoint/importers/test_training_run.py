"""Runs of adamix-train by the method that trained them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import BankError
from adamix_export.tasks.classification import logits
from adamix_train.errors import BaseError, CheckpointError
from adamix_train.run.train import train
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Exports
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


def test_a_run_that_trained_all_weights_is_a_whole_model(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    train(small_recipe(tiny_base, tiny_data, tmp_path / "run", method="full", epochs=1))
    run = open_checkpoint(str(tmp_path / "run"))
    with torch.inference_mode():
        expected = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()(**INPUTS).logits
        assert torch.equal(run.merged()(**INPUTS).logits, expected)
    assert (run.kind, run.labels, run.base) == ("full", ["negative", "positive"], tmp_path / "run")
    with pytest.raises(BankError, match="is a whole model, without an adapter"):
        run.adapter  # noqa: B018
    with pytest.raises(BaseError, match="is a whole model, which has no base: leave out --base"):
        open_checkpoint(str(tmp_path / "run"), base=str(tiny_base))


def test_a_run_that_trained_a_head_shares_a_bank_with_an_adapter(
    tiny_base: Path, tiny_data: Path, houlsby: Path, exported: Exports, tmp_path: Path
) -> None:
    train(small_recipe(tiny_base, tiny_data, tmp_path / "run", method="head", epochs=1, learning_rate=0.1))
    run = open_checkpoint(str(tmp_path / "run"))
    assert set(run.adapter) == {"classifier.head.weight", "classifier.head.bias"}
    bundle = exported("bank", f"head={tmp_path / 'run'}", f"mixture={houlsby}")
    texts = ["the parcel was lovely", "bad"]
    classifier = Classifier(bundle, provider="cpu")
    found = [[prediction.logits for prediction in classifier(texts, adapter=name)] for name in ("head", "mixture")]
    for checkpoint, rows in zip((run, open_checkpoint(str(houlsby))), found, strict=True):
        np.testing.assert_allclose(rows, logits(checkpoint, [(text,) for text in texts]), atol=1e-5)


def test_a_mixture_that_a_loop_of_ones_own_saved_needs_facts_alone(lora: Path, tmp_path: Path) -> None:
    """`save_pretrained` of an AdaMix model writes no card: labels and the base are given instead."""
    run = open_checkpoint(str(lora))
    own = Path(shutil.copytree(lora, tmp_path / "own"))
    (own / "adamix.json").unlink()
    found = open_checkpoint(str(own), base=str(run.base), facts=Facts(labels=tuple(run.labels), max_length=16))
    assert (found.kind, found.num_modules, found.card.max_length) == ("lora", run.num_modules, 16)
    assert found.adapter.keys() == run.adapter.keys()
    assert all(torch.equal(tensor, run.adapter[name]) for name, tensor in found.adapter.items())


@pytest.mark.parametrize(
    ("targets", "told"), [(["query", "key", "value"], "lacks .* tensors .*key"), (["query"], "no place .*value")]
)
def test_a_mixture_whose_configuration_lies_about_its_targets_is_refused(
    targets: list[str], told: str, lora: Path, tmp_path: Path
) -> None:
    run = open_checkpoint(str(lora))
    own = Path(shutil.copytree(lora, tmp_path / "own"))
    (own / "adamix.json").unlink()
    config = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps({**config, "target_modules": targets}))
    found = open_checkpoint(str(own), base=str(run.base), facts=Facts(labels=tuple(run.labels), max_length=16))
    with pytest.raises(CheckpointError, match=told):
        _ = found.reference
