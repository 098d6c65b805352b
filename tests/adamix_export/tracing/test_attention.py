from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from adamix_export.errors import ExportError
from adamix_export.tracing.attention import multi_head_attention, padding_mask, register
from tests.adamix_export.tracing.operators import run_operator
from tests.fixtures.tiny_models import ENCODERS, tiny_inputs, tiny_model

HEADS, LENGTH = 2, 6
FUSED = [family for family in ENCODERS if family != "deberta-v2"]


@pytest.fixture(autouse=True)
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the operators that were emitted; each runs at once."""
    names: list[str] = []

    def run(name: str, *inputs: Any, **options: Any) -> Tensor:
        names.append(name)
        return run_operator(name, *inputs, **options)

    monkeypatch.setattr(torch.onnx.ops, "symbolic", run)
    return names


def states() -> list[Tensor]:
    """Query, key and value."""
    torch.manual_seed(0)
    return [torch.randn(2, HEADS, LENGTH, 4) for _ in range(3)]


@pytest.mark.parametrize("scale", [None, 0.3])
def test_padding_bias_and_scale_are_those_of_pytorchs_attention(scale: float | None) -> None:
    (query, key, value), bias = states(), torch.randn(1, HEADS, LENGTH, LENGTH)
    mask = torch.tensor([[True] * LENGTH, [True] * 3 + [False] * 3])
    found, _ = multi_head_attention(
        nn.Module(), query, key, value, padding_mask(attention_mask=mask), scaling=scale, position_bias=bias
    )
    scores = bias.masked_fill(~mask[:, None, None], -torch.inf)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores, scale=scale)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_window_reaches_to_less_than_its_size_on_either_side() -> None:
    query, key, value = states()
    found, _ = multi_head_attention(nn.Module(), query, key, value, None, sliding_window=2)
    near = torch.tensor([[abs(one - other) <= 1 for one in range(LENGTH)] for other in range(LENGTH)])
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=near)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


class Continuation(nn.Module):
    """Attention that does not look ahead."""

    is_causal = True


@pytest.mark.parametrize("window", [None, 2])
def test_a_causal_module_sees_earlier_tokens_alone(window: int | None) -> None:
    query, key, value = states()
    found, _ = multi_head_attention(Continuation(), query, key, value, None, sliding_window=window)
    distances = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    near = (distances >= 0) & (distances < (window or LENGTH))
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=near)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_head_of_keys_serves_several_of_queries() -> None:
    query, key, value = states()
    query = torch.cat([query, query.flip(0)], 1)
    found, _ = multi_head_attention(nn.Module(), query, key, value, None)
    expected = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"softcap": 5.0}, "Identity is soft-capped attention, which is not supported in a classifier"),
        ({"s_aux": torch.zeros(HEADS)}, "Identity is attention with sinks, which is not supported"),
    ],
)
def test_attention_that_the_operator_does_not_have_is_refused(
    settings: dict[str, Any], message: str, emitted: list[str]
) -> None:
    query, key, value = states()
    with pytest.raises(ExportError, match=message):
        multi_head_attention(nn.Identity(), query, key, value, None, **settings)
    assert not emitted


@pytest.mark.parametrize("family", FUSED)
def test_a_family_attends_through_the_operator_as_without_it(family: str, emitted: list[str]) -> None:
    """ModernBERT's second layer has a window shorter than the rows."""
    window = {"local_attention": 4} if family == "modernbert" else {}
    model, inputs = tiny_model(family, initializer_range=0.3, **window), tiny_inputs(family)
    with torch.inference_mode():
        model.set_attn_implementation("eager")
        expected = model(**inputs).logits
        assert not emitted
        model.set_attn_implementation(register())
        found = model(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert emitted == ["com.microsoft::MultiHeadAttention"] * 2
