import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from adamix_train.mixture.layers import add_to_weight, features

DELTA = torch.arange(6, dtype=torch.float64).reshape(2, 3)


def layers() -> list[nn.Module]:
    """Layers that take 3 features and give 2."""
    return [nn.Linear(3, 2), Conv1D(2, 3)]


@pytest.mark.parametrize("layer", layers(), ids=["linear", "conv1d"])
def test_widths_are_those_of_input_and_output(layer: nn.Module) -> None:
    assert features(layer) == (3, 2)
    assert layer(torch.zeros(1, 3)).shape == (1, 2)


@pytest.mark.parametrize("layer", layers(), ids=["linear", "conv1d"])
def test_an_addition_to_the_weight_adds_its_product_to_the_output(layer: nn.Module) -> None:
    x = torch.tensor([[1.0, -2.0, 0.5]])
    before = layer(x)
    add_to_weight(layer, DELTA)
    # (0, 1, 2) · x = -1 and (3, 4, 5) · x = -2.5
    torch.testing.assert_close(layer(x) - before, torch.tensor([[-1.0, -2.5]]))


def test_the_addend_is_not_rounded_before_the_sum() -> None:
    """1 + 2⁻²⁴ lies midway between two fp32 numbers: 2⁻⁵⁰ more decides, and is lost in an addend in fp32."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    add_to_weight(layer, torch.tensor([[2.0**-24 + 2.0**-50]], dtype=torch.float64))
    assert layer.weight.dtype == torch.float32
    assert layer.weight.item() == 1 + 2.0**-23


def test_a_layer_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="a Embedding cannot be adapted; Linear, Conv1D can"):
        features(nn.Embedding(3, 2))
