"""Distances of a mixture's modules from their mean, which say how much was averaged."""

from dataclasses import replace

import torch

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.errors import BankError
from adamix_train.training.module_weights import equal_weights


def module_distances(checkpoint: Checkpoint) -> list[float]:
    """Return for each module ‖module − mean‖ / ‖mean‖, over the weights in which modules differ.

    Empty for a checkpoint that is no mixture, is one module of one, or has no form in a bank.
    """
    if checkpoint.num_modules < 2 or checkpoint.member_of:
        return []
    try:
        mean = checkpoint.adapter
    except BankError:
        return []
    alone = (equal_weights([index], checkpoint.num_modules) for index in range(checkpoint.num_modules))
    modules = [replace(checkpoint, weights=tuple(weights)).adapter for weights in alone]
    own = [name for name in mean if any(not torch.equal(module[name], mean[name]) for module in modules)]
    if not own:
        return [0.0] * len(modules)

    def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([tensors[name].double().flatten() for name in own])

    centre = flat(mean)
    return [float((flat(module) - centre).norm() / centre.norm()) for module in modules]
