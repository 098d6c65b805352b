"""Every method of PEFT: merged as PEFT merges it, in a bank where a bank holds it, else refused by name."""

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForSequenceClassification

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import BankError, ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from tests.fixtures.peft_checkpoints import make_classifier, save_peft

pytestmark = pytest.mark.slow

INPUTS = {
    "input_ids": torch.tensor([[2, 12, 5, 13, 3], [2, 7, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
}
BANK = {
    "ADALORA": {"total_step": 10, "target_modules": "all-linear", "bias": "lora_only"},
    "IA3": {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]},
    "LORA": {},
}
"""Method that a bank holds → fields."""
MERGED: dict[str, dict[str, Any]] = {
    "ADAMSS": {},
    "BEFT": {},
    "BOFT": {},
    "C3A": {"block_size": 8},
    "DEFT": {},
    "DELORA": {},
    "FOURIERFT": {"n_frequency": 50},
    "FROD": {},
    "GLORA": {},
    "GRALORA": {"r": 8},
    "HIRA": {},
    "HRA": {},
    "LN_TUNING": {"target_modules": ["LayerNorm"]},
    "LOHA": {},
    "LOKR": {},
    "MISS": {"r": 8},
    "OFT": {},
    "OSF": {},
    "PEANUT": {},
    "PSOFT": {"r": 8},
    "PVERA": {},
    "RANDLORA": {},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 4},
    "TINYLORA": {},
    "TRAINABLE_TOKENS": {"target_modules": ["word_embeddings"], "token_indices": [3, 4, 5]},
    "UNILORA": {},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "VERA": {"r": 8},
    "WAVEFT": {"n_frequency": 50},
}
"""Method that is merged and not held by a bank → fields."""
REFUSED = {
    "CARTRIDGE": "adds tokens to every input",
    "P_TUNING": "adds tokens to every input",
    "PREFIX_TUNING": "adds tokens to every input",
    "PROMPT_TUNING": "adds tokens to every input",
    "POLY": "mixes several adapters",
    "SHADOW": "runs a second model",
}
"""Method that is no change of weights → reason."""


@pytest.fixture(scope="module")
def base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("methods") / "base", tiny_base)


def saved(folder: Path, base: Path, method: str, given: dict[str, Any]) -> Path:
    """Write an adapter of a method with random weights."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)]
    defaults = {"target_modules": ["query", "value"], "num_virtual_tokens": 2}
    known = {field.name for field in fields(config)}
    common = {name: value for name, value in defaults.items() if name in known}
    model = AutoModelForSequenceClassification.from_pretrained(base)
    return save_peft(folder, model, method=config, task_type="SEQ_CLS", **{**common, **given})


@pytest.mark.parametrize("method", [*MERGED, *BANK])
def test_a_merged_method_gives_pefts_logits(method: str, base: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(saved(tmp_path / "one", base, method, {**MERGED, **BANK}[method])))
    with torch.inference_mode():
        expected = checkpoint.reference(**INPUTS).logits
        plain = checkpoint.base_model()(**INPUTS).logits
        checkpoint.forget_reference()
        found = checkpoint.merged()(**INPUTS).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected - plain).abs().max() > 1e-2, "the base alone would pass"
    if method in MERGED:
        with pytest.raises(BankError, match=rf"has {method}'s \w+ at .*, which a bank does not hold: .*merged"):
            _ = checkpoint.adapter


def test_a_bank_holds_methods_side_by_side(base: Path, tmp_path: Path) -> None:
    checkpoints = [
        open_checkpoint(str(saved(tmp_path / method, base, method, given))) for method, given in BANK.items()
    ]
    reports = EXPORTS["bank"](checkpoints, tmp_path / "bank", Options(), lambda stage: None)
    assert {name: report.max_difference < 1e-4 for name, report in reports.items()} == dict.fromkeys(BANK, True)


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_changes_no_weights_is_refused_by_name(method: str, base: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = saved(tmp_path / "one", base, method, {})
    with pytest.raises(ExportError, match=rf"is a {method} of PEFT, which {REFUSED[method]}"):
        open_checkpoint(str(folder))
