"""A method that a bank does not hold, as the closest LoRA of a rank: exact where the rank suffices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.tracing.merged import merge
from serve.classification.classifier import Classifier
from tests.fixtures.peft_checkpoints import make_classifier, save_peft

Command = Callable[..., None]
INPUTS = {"input_ids": torch.tensor([[2, 12, 5, 13, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
RANK, WIDTH = 4, 32


@pytest.fixture(scope="module")
def loha(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loha")
    model = AutoModelForSequenceClassification.from_pretrained(make_classifier(root / "base", tiny_base))
    targets = {"target_modules": ["query", "value"], "r": RANK, "init_weights": False}
    return save_peft(root / "tone", model, method=peft.LoHaConfig, task_type="SEQ_CLS", **targets)


def lost(folder: Path, rank: int) -> float:
    """Return the largest difference between PEFT's logits and those of the base with the approximation merged."""
    checkpoint = open_checkpoint(str(folder), facts=Facts(rank=rank))
    with torch.inference_mode():
        found = merge(checkpoint.base_model(), checkpoint.adapter)(**INPUTS).logits
        return float((found - checkpoint.reference(**INPUTS).logits).abs().max())


def test_a_rank_that_suffices_loses_nothing_and_a_lower_one_more(loha: Path) -> None:
    """LoHa multiplies two matrices of its rank entry by entry, which makes one of that rank squared."""
    losses = [lost(loha, rank) for rank in (RANK * RANK, 8, 1)]
    assert losses[0] < 1e-5 < losses[1] < losses[2]


def test_only_projections_are_approximated(loha: Path) -> None:
    adapter = open_checkpoint(str(loha), facts=Facts(rank=3)).adapter
    assert {name for name in adapter if ".lora." not in name} == {"classifier.head.weight", "classifier.head.bias"}
    assert {tensor.shape for name, tensor in adapter.items() if name.endswith("down.weight")} == {(3, WIDTH)}


@pytest.mark.slow
def test_what_an_approximation_loses_is_bounded(command: Command, loha: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="does not hold: export it with --shape merged, or with --rank R"):
        command(loha, out, "--shape", "bank")
    with pytest.raises(SystemExit, match="the exported graph does not agree with PyTorch"):
        command(loha, out, "--shape", "bank", "--rank", "2")
    assert list(tmp_path.iterdir()) == []
    bounds = ("--rank", "2", "--tolerance", "10", "--max-metric-drop", "1")
    with pytest.raises(SystemExit, match=r"tone: --max-metric-drop bounds .* nothing measures it: name labelled texts"):
        command(loha, out, "--shape", "bank", *bounds)
    assert list(tmp_path.iterdir()) == []
    labels = open_checkpoint(str(loha)).labels
    rows = [f"the parcel was {word},{label}" for word in ("good", "bad") for label in labels]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    command(loha, out, "--shape", "bank", *bounds, "--data", str(tmp_path / "texts.csv"))
    found = np.stack([one.logits for one in Classifier(out)(["the parcel was good"])])
    assert np.isfinite(found).all()
    command("verify", out)
