import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.peft_lora import write_peft
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from adamix_export.tracing.merged import merge
from serve.bundle.adapter import Adapter
from serve.bundle.reader import open_bundle
from serve.errors import BundleError

pytestmark = pytest.mark.slow

INPUTS = {
    "input_ids": torch.tensor([[4, 12, 5, 13], [7, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
}


def assert_as_collapsed(checkpoint: Path, folder: Path) -> None:
    """Logits of PEFT's LoRA and of the base with our collapsed adapter folded in."""
    source = open_checkpoint(str(checkpoint))
    theirs = peft.PeftModel.from_pretrained(source.base_model(), folder).eval()
    ours = merge(source.base_model(), source.adapter)
    with torch.inference_mode():
        found, expected, base = (model(**INPUTS).logits for model in (theirs, ours, source.base_model()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - base).abs().max() > 1e-2, "the base alone would not pass"


def test_peft_gives_the_logits_of_our_collapsed_classifier(merged: Path, lora: Path, tmp_path: Path) -> None:
    convert(merged, tmp_path / "peft", "peft")
    assert_as_collapsed(lora, tmp_path / "peft")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_peft_gives_the_logits_of_our_collapsed_decoder(
    family: str, decoders: dict[str, Path], writers: dict[str, Path], tmp_path: Path
) -> None:
    """GPT-2 has query and value as blocks of one projection with a transposed weight."""
    convert(decoders[family], tmp_path / "peft", "peft")
    assert_as_collapsed(writers[family], tmp_path / "peft")


def test_one_adapter_of_a_bank_is_taken_out_by_name(bank: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="the bundle has tone, start: choose one with --adapter"):
        convert(bank, tmp_path / "peft", "peft")
    with pytest.raises(ExportError, match="has no adapter nobody; it has tone, start"):
        convert(bank, tmp_path / "peft", "peft", adapter="nobody")
    with pytest.raises(ExportError, match="tone is a houlsby adapter, which PEFT does not have"):
        convert(bank, tmp_path / "peft", "peft", adapter="tone")
    assert list(tmp_path.iterdir()) == []
    convert(bank, tmp_path / "peft", "peft", adapter="start")
    assert_as_collapsed(lora, tmp_path / "peft")


def test_ranks_may_differ_from_module_to_module(merged: Path, lora: Path, tmp_path: Path) -> None:
    """A rank that is padded with zeros at one module does the same."""
    bundle = open_bundle(merged)
    adapter = bundle.adapters["start"]
    name = next(name for name in adapter.tensors if name.endswith("lora.down.weight"))
    up = name.replace("down", "up")
    padded = {
        name: np.pad(adapter.tensors[name], ((0, 3), (0, 0))),
        up: np.pad(adapter.tensors[up], ((0, 0), (0, 3))),
    }
    write_peft(bundle, [Adapter(adapter.card, {**adapter.tensors, **padded})], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert list(config["rank_pattern"].values()) == [9]
    assert_as_collapsed(lora, tmp_path)


def test_the_checkpoint_says_what_it_is(merged: Path, tmp_path: Path) -> None:
    convert(merged, tmp_path / "peft", "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]) == ("LORA", "SEQ_CLS", 6, 6)
    assert config["modules_to_save"] == ["classifier"]
    assert all(
        tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "peft" / "adapter_model.safetensors").values()
    )
    assert ModelCard.load(tmp_path / "peft" / "README.md").data.library_name == "peft"


def test_only_a_folder_of_the_format_is_replaced(merged: Path, tmp_path: Path) -> None:
    out = tmp_path / "peft"
    convert(merged, out, "peft")
    with pytest.raises(BundleError, match="exists: give another folder, or --force"):
        convert(merged, out, "peft")
    convert(merged, out, "peft", force=True)
    (out / "adapter_config.json").rename(out / "mine.json")
    with pytest.raises(BundleError, match=r"nor has adapter_config\.json in it: it is not replaced"):
        convert(merged, out, "peft", force=True)
    assert (out / "mine.json").is_file()
