"""Train a LoRA with a larger rank and cut it to its own at the end, by singular value decomposition."""

import torch
from torch import Tensor, nn

from adamix_train.mixture.lora import LoRA
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.methods import TrainableModel


def cut_rank(model: TrainableModel, recipe: Recipe) -> None:
    """Replace the adapters of `model`, trained with `recipe.expand_rank`, by the closest ones of rank `recipe.r`.

    The scaling, lora_alpha / r, is the same for both. The product of each pair is cut by itself (Eckart-Young); its
    singular values are divided equally between the two factors.
    """
    for adapter in [module for module in model.modules() if isinstance(module, LoRA)]:
        count = len(adapter.blocks)
        ups, downs = adapter.up.weight[0].chunk(count), adapter.down.weight[0].chunk(count)
        pairs = [cut_pair(up, down, recipe.r) for up, down in zip(ups, downs, strict=True)]
        adapter.up.weight = nn.Parameter(torch.cat([up for up, _ in pairs])[None])
        adapter.down.weight = nn.Parameter(torch.cat([down for _, down in pairs])[None])
        adapter.up.in_features, adapter.down.out_features = recipe.r, count * recipe.r
    for config in model.peft_config.values():
        config.r, config.lora_alpha = recipe.r, recipe.lora_alpha


def cut_pair(up: Tensor, down: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Return (out, r) and (r, in), whose product is the closest of rank r to up (out, R) · down (R, in)."""
    q_up, r_up = torch.linalg.qr(up.detach().double())
    q_down, r_down = torch.linalg.qr(down.detach().double().T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T)
    root = values[:r].sqrt()
    return ((q_up @ left[:, :r]) * root).to(up.dtype), (root[:, None] * (right[:r] @ q_down.T)).to(down.dtype)
