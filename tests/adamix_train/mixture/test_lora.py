import torch
from torch import nn

from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.projection import linear_projection, mixture_projection
from adamix_train.mixture.shape import AdapterShape

SHAPE = AdapterShape(in_features=5, out_features=6, r=2, lora_alpha=6.0)
# Query and value of a fused query, key and value: three blocks of 2.
FUSED = AdapterShape(in_features=5, out_features=6, r=2, lora_alpha=6.0, blocks=(0, 2), block_count=3)
X, Y = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.ones(3, 6)


def adapter(shape: AdapterShape) -> LoRA:
    """An adapter whose up projection is not zero."""
    made = LoRA(shape, linear_projection)
    made.reset_parameters()
    nn.init.normal_(made.up.weight)
    return made


def test_the_output_is_the_papers_equation() -> None:
    lora = adapter(SHAPE)
    torch.testing.assert_close(lora(X, Y), Y + 6.0 / 2 * (X @ lora.down.weight.T @ lora.up.weight.T))


def test_each_adapted_block_has_its_own_pair_and_the_others_are_left_alone() -> None:
    lora = adapter(FUSED)
    (down_q, down_v), (up_q, up_v) = lora.down.weight.split(2), lora.up.weight.split(2)
    query, key, value = lora(X, Y).chunk(3, -1)
    torch.testing.assert_close(query, 1 + 3 * (X @ down_q.T @ up_q.T))
    torch.testing.assert_close(value, 1 + 3 * (X @ down_v.T @ up_v.T))
    torch.testing.assert_close(key, torch.ones(3, 2))


def test_folding_leaves_the_output_and_no_factor() -> None:
    for shape in (SHAPE, FUSED):
        lora = adapter(shape)
        before = lora(X, Y)
        lora.fold()
        torch.testing.assert_close(lora(X, Y), before)
        torch.testing.assert_close(Y + X @ lora.down.weight.T @ lora.up.weight.T, before)


def test_a_merged_layer_gives_what_layer_and_adapter_gave() -> None:
    for shape in (SHAPE, FUSED):
        lora, base = adapter(shape), nn.Linear(5, 6)
        expected = lora(X, base(X))
        torch.testing.assert_close(lora.merge(base)(X), expected)


def test_modules_start_equal_and_without_effect() -> None:
    lora = LoRA(SHAPE, mixture_projection(3, share="none"))
    lora.reset_parameters()
    first, second, third = lora.down.weight
    assert first.abs().max() > 0
    assert torch.equal(first, second) and torch.equal(first, third)
    torch.testing.assert_close(lora.eval()(X, Y), Y)
