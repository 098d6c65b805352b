import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from adamix_export.tracing.norm import RMSNorm, fuse_norms
from tests.adamix_export.tracing.operators import run_operator
from tests.fixtures.tiny_models import tiny_inputs, tiny_model

NORMS = {"llama": 2 * 2 + 1, "qwen3": 2 * 4 + 1, "t5": (2 * 2 + 1) + (2 * 3 + 1)}
"""Norms of two layers, and the last one: Qwen3 has two more on queries and keys, T5 an encoder and a decoder."""


@pytest.mark.parametrize(("family", "count"), NORMS.items())
def test_a_model_with_fused_norms_gives_its_own_logits(
    family: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx.ops, "symbolic", run_operator)
    model, inputs = tiny_model(family), tiny_inputs(family)
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 0.1
            nn.init.uniform_(module.weight, 0.5, 2.0)
    with torch.inference_mode():
        expected = model(**inputs).logits
        fuse_norms(model)
        found = model(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert sum(isinstance(module, RMSNorm) for module in model.modules()) == count


class VarianceNorm(nn.LayerNorm):
    """A norm that subtracts the mean, under an attribute that root-mean-square norms have."""

    variance_epsilon = 1e-5


def test_norms_with_other_formulas_are_left_alone() -> None:
    """Gemma's multiplies by one more than its weight."""
    model = nn.ModuleDict({"gemma": Gemma2RMSNorm(4), "mean": VarianceNorm(4), "torch": nn.RMSNorm(4)})
    before = dict(model.items())
    fuse_norms(model)
    assert all(model[name] is module for name, module in before.items())
