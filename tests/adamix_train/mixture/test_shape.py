import pytest
import torch

from adamix_train.mixture.houlsby import STD, Houlsby
from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.projection import linear_projection, mixture_projection
from adamix_train.mixture.shape import SHARES, AdapterShape


def test_each_share_that_a_recipe_offers_is_of_another_projection_or_of_none() -> None:
    modules = {}
    for share in SHARES:
        projection = mixture_projection(4, share=share)
        modules[share] = tuple(projection(name, 2, 2, bias=False).num_modules for name in ("down", "up"))
    assert modules == {"up": (4, 1), "down": (1, 4), "none": (4, 4)}


def test_sizes_alone_describe_an_adapter_of_the_whole_output_without_dropout() -> None:
    """In training mode, in which dropout would show; the output is divided by the rank alone."""
    torch.manual_seed(0)
    lora = LoRA(AdapterShape(in_features=5, out_features=6, r=2), linear_projection).train()
    x, y = torch.randn(100, 5), torch.randn(100, 6)
    torch.testing.assert_close(lora(x, y), y + x @ lora.down.weight.T @ lora.up.weight.T / 2)


def test_a_bottleneck_starts_as_in_the_original_unless_the_shape_says_otherwise() -> None:
    torch.manual_seed(0)
    houlsby = Houlsby(AdapterShape(in_features=5, out_features=100, r=100), linear_projection)
    houlsby.reset_parameters()
    assert float(houlsby.up.weight.detach().std()) == pytest.approx(STD, rel=0.05)


def test_sizes_are_given_by_name() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        AdapterShape(5, 6, 2)  # type: ignore[misc]
