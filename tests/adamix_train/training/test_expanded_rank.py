"""A wide LoRA that is cut, against numpy's singular value decomposition."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig
from torch import nn

from adamix_train.base_model.load import load_classifier
from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.projection import mixture_projection
from adamix_train.mixture.shape import AdapterShape
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.expanded_rank import cut_pair, cut_rank
from tests.fixtures.training import weights


@pytest.mark.parametrize(("out", "wide", "into"), [(6, 4, 5), (3, 8, 9), (12, 8, 3)])
def test_the_closest_product_of_lower_rank(out: int, wide: int, into: int) -> None:
    torch.manual_seed(0)
    up, down = torch.randn(out, wide), torch.randn(wide, into)
    cut_up, cut_down = cut_pair(up, down, 2)
    left, values, right = np.linalg.svd((up.double() @ down.double()).numpy())
    expected = (left[:, :2] * values[:2]) @ right[:2]
    assert (cut_up.shape, cut_down.shape) == ((out, 2), (2, into))
    np.testing.assert_allclose((cut_up @ cut_down).numpy(), expected, atol=1e-5)


def test_the_pairs_of_a_fused_projection_are_cut_by_themselves() -> None:
    """Each block is 2 wide, so that a product of rank 4 has no more than rank 2: nothing is lost."""
    wide = AdapterShape(in_features=5, out_features=6, r=4, lora_alpha=12.0, blocks=(0, 2), block_count=3)
    model = nn.Module()
    model.adapter = LoRA(wide, mixture_projection(1, share="none"))
    for weight in model.adapter.parameters():
        nn.init.normal_(weight)
    model.eval().peft_config = {"default": LoraConfig(r=4, lora_alpha=12)}
    x, y = torch.randn(3, 5), torch.randn(3, 6)
    before = model.adapter(x, y)
    cut_rank(model, Recipe(base="b", out="o", kind="lora", num_modules=1, r=2, lora_alpha=6.0, expand_rank=4))
    assert (model.adapter.down.weight.shape, model.adapter.up.weight.shape) == ((1, 4, 5), (1, 4, 2))
    torch.testing.assert_close(model.adapter(x, y), before)
    assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (2, 6.0)


@pytest.mark.slow
def test_a_wide_lora_ends_with_its_own_rank_and_is_measured_so(recipe: Recipe) -> None:
    results = train(replace(recipe, num_modules=1, expand_rank=12, epochs=4))
    assert results["test_accuracy"] > 0.9
    saved = weights(recipe.out)
    downs = [weight for name, weight in saved.items() if name.endswith("down.weight")]
    assert {tuple(down.shape[:2]) for down in downs} == {(1, recipe.r)}
    config = json.loads((Path(recipe.out) / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (recipe.r, recipe.lora_alpha)
    base = load_classifier(Path(recipe.base), ["negative", "positive"])
    loaded = peft.PeftModel.from_pretrained(base, recipe.out)
    assert all(torch.isfinite(weight).all() for weight in loaded.parameters())
