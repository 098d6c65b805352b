"""A wide LoRA that is cut, against numpy's singular value decomposition."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from adamix_train.base_model.load import load_classifier
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.expanded_rank import cut_pair
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
