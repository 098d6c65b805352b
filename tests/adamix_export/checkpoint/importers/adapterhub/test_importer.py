"""Adapters of the `adapters` library give the logits of their own formulas, merged, beside the base and in a bank."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import BankError
from serve.classification.classifier import Classifier
from tests.fixtures.adapterhub_folders import (
    ADAPTER_PLUS,
    DORA,
    DOUBLE_SEQ_BN,
    HEAD,
    IA3,
    LABELS,
    LORA,
    PAR_BN,
    SEQ_BN,
    expected_logits,
    write_folder,
)

Command = Callable[..., None]
IDS = torch.tensor([[2, 12, 5, 13, 3], [2, 7, 3, 0, 0]])
MASK = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
TEXTS = ["the parcel was good", "my shop is broken"]
IN_A_BANK = {
    "seq_bn": SEQ_BN,
    "seq_bn_learned": {**SEQ_BN, "scaling": "learned", "leave_out": [0], "non_linearity": "gelu"},
    "double_seq_bn": DOUBLE_SEQ_BN,
    "houlsby": {**DOUBLE_SEQ_BN, "non_linearity": "gelu", "reduction_factor": {"0": 4, "default": 16}},
    "lora": {**LORA, "attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True},
    "dora": DORA,
    "ia3": IA3,
}
MERGED_ALONE = {
    "par_bn": (PAR_BN, HEAD, "is parallel"),
    "adapter_plus": (ADAPTER_PLUS, HEAD, "behind a layer norm"),
    "ln_after": ({**SEQ_BN, "ln_after": True}, HEAD, "has a layer norm"),
    "tanh": ({**SEQ_BN, "non_linearity": "tanh"}, HEAD, "has the activation tanh; a bank holds gelu, relu"),
    "one layer": (LORA, {**HEAD, "layers": 1}, "the head has 1 layers"),
    "three layers": (LORA, {**HEAD, "layers": 3, "activation_function": "relu"}, "the head has 3 layers"),
}


def assert_logits(model: torch.nn.Module, expected: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=IDS, attention_mask=MASK).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [*IN_A_BANK, *MERGED_ALONE])
def test_the_logits_are_those_of_the_formulas(case: str, tiny_base: Path, tmp_path: Path) -> None:
    config, head, refusal = MERGED_ALONE.get(case, (IN_A_BANK.get(case), HEAD, None))
    folder = write_folder(tmp_path / "tone", tiny_base, config, head=head)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.labels == list(LABELS)
    expected = expected_logits(folder, tiny_base, IDS, MASK)
    assert_logits(checkpoint.reference, expected)
    assert_logits(checkpoint.merged(), expected)
    with torch.inference_mode():
        base = checkpoint.base_model()(input_ids=IDS, attention_mask=MASK).logits
    assert (base - expected).abs().max() > 0.1, "the base alone would not pass"
    if refusal is not None:
        with pytest.raises(BankError, match=f"{refusal}.*export it with --shape merged"):
            _ = checkpoint.adapter


def test_a_head_behind_the_pooler_is_the_classifier(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, LORA, head={**HEAD, "layers": 1, "use_pooler": True})
    checkpoint = open_checkpoint(str(folder))
    assert_logits(checkpoint.reference, expected_logits(folder, tiny_base, IDS, MASK))
    assert not any("pooler" in name for name in checkpoint.adapter)


def test_the_parts_of_a_union_are_read(tiny_base: Path, tmp_path: Path) -> None:
    union = {"architecture": "union", "configs": [{**DOUBLE_SEQ_BN, "non_linearity": "gelu"}, LORA]}
    folder = write_folder(tmp_path / "tone", tiny_base, union)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.kind == "bottleneck-lora"
    for model in (checkpoint.reference, checkpoint.merged()):
        assert_logits(model, expected_logits(folder, tiny_base, IDS, MASK))
    assert {name.rsplit(".", 3)[1] for name in checkpoint.adapter if ".head." not in name} == {"houlsby", "lora"}


@pytest.mark.parametrize(("config", "kind", "r"), [(SEQ_BN, "bottleneck", 4), (LORA, "lora", 4), (IA3, "ia3", 1)])
def test_a_card_says_what_it_is(config: dict[str, Any], kind: str, r: int, tiny_base: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_folder(tmp_path / "tone", tiny_base, config)))
    assert (checkpoint.kind, checkpoint.r, checkpoint.num_modules) == (kind, r, 1)


@pytest.mark.slow
def test_all_kinds_are_served_from_one_bank(command: Command, tiny_base: Path, tmp_path: Path) -> None:
    """A bank of bottlenecks within and without layer norms, LoRA, DoRA and IA3: each row has its own logits."""
    folders = {
        name: write_folder(tmp_path / name, tiny_base, config, seed=seed)
        for seed, (name, config) in enumerate(IN_A_BANK.items())
        if name in ("seq_bn", "double_seq_bn", "dora", "ia3")
    }
    command(*folders.values(), tmp_path / "out", "--shape", "bank")
    texts = TEXTS * len(folders)
    names = [name for name in folders for _ in TEXTS]
    found = np.stack([one.logits for one in Classifier(tmp_path / "out")(texts, adapter=names)])
    inputs = AutoTokenizer.from_pretrained(tiny_base)(TEXTS, padding=True, return_tensors="pt")
    expected = [
        expected_logits(folder, tiny_base, inputs["input_ids"], inputs["attention_mask"]) for folder in folders.values()
    ]
    np.testing.assert_allclose(found, torch.cat(expected).numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_merged_bundle_has_the_logits(command: Command, tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, PAR_BN)
    command(folder, tmp_path / "out")
    inputs = AutoTokenizer.from_pretrained(tiny_base)(TEXTS, padding=True, return_tensors="pt")
    expected = expected_logits(folder, tiny_base, inputs["input_ids"], inputs["attention_mask"])
    predictions = Classifier(tmp_path / "out")(TEXTS)
    np.testing.assert_allclose(np.stack([one.logits for one in predictions]), expected.numpy(), rtol=0, atol=1e-5)
    assert [one.label for one in predictions] == [LABELS[index] for index in expected.argmax(-1)]
    command("verify", tmp_path / "out", "--against", folder)
