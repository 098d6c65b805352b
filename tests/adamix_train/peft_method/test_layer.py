from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from adamix_train.peft_method import AdaMixConfig, AdaMixLayer
from tests.fixtures.adapted_bert import adamix, base, inputs, shaken

KINDS = ["houlsby", "lora"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_module_is_the_plain_adapter(kind: str) -> None:
    model = shaken(adamix(kind, num_modules=1)).eval()
    layer = next(module for module in model.modules() if isinstance(module, AdaMixLayer))
    adapter = layer.adamix_modules["default"]
    x = torch.randn(2, 3, layer.get_base_layer().in_features)
    y = layer.get_base_layer()(x)
    down, up = adapter.down, adapter.up
    if kind == "houlsby":
        hidden = functional.gelu(functional.linear(y, down.weight[0], down.bias[0]))
        expected = y + functional.linear(hidden, up.weight[0], up.bias[0])
    else:
        expected = y + (32.0 / 4) * (x @ down.weight[0].T @ up.weight[0].T)
    torch.testing.assert_close(layer(x), expected)


def test_a_layer_that_is_not_linear_is_refused() -> None:
    config = AdaMixConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"])
    with pytest.raises(TypeError, match="LayerNorm: a LayerNorm cannot be adapted; Linear, Conv1D can"):
        peft.get_peft_model(base(), config)


def test_a_merged_lora_is_a_model_of_stock_transformers(tmp_path: Path) -> None:
    model = shaken(adamix("lora")).eval()
    expected = model(**inputs()).logits
    model.merge_and_unload().save_pretrained(tmp_path)
    stock, report = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.testing.assert_close(stock.eval()(**inputs()).logits, expected, atol=1e-5, rtol=1e-4)


def test_an_autoclass_model_works_too(tiny_base: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=3)
    adapted = peft.get_peft_model(model, AdaMixConfig(task_type="SEQ_CLS", r=2))
    adapted.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = next(name for name in tensors if name.endswith("down.weight"))
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, tmp_path / "adapter_model.safetensors")
    broken = peft.PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=3), tmp_path
    )
    with pytest.raises(ValueError, match="not finite"):
        broken.merge_and_unload(safe_merge=True)
