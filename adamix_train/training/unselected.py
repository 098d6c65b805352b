"""Keep the weights and AdamW moments of modules that an optimizer step did not use.

The original code updates them: its zero gradients still apply momentum and weight decay to every module.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adamix_train.mixture.projection import mixtures


def freeze_unselected(optimizer: Optimizer, model: nn.Module) -> None:
    """Make a step of `optimizer` leave modules alone that no forward pass since the previous step used.

    AdamW's step count, which all modules of a mixture share, still advances.
    """
    found = mixtures(model)
    before: list[tuple[Tensor, list[int], Tensor]] = []

    def remember(*_: Any) -> None:
        before.clear()
        for mixture in found:
            if idle := sorted(set(range(mixture.num_modules)) - mixture.chosen):
                for parameter in mixture.parameters():
                    before.extend((stack, idle, stack[idle].clone()) for stack in stacks_of(optimizer, parameter))

    def restore(*_: Any) -> None:
        with torch.no_grad():
            for stack, idle, rows in before:
                stack[idle] = rows
        for mixture in found:
            mixture.chosen.clear()

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(restore)


def stacks_of(optimizer: Any, parameter: Tensor) -> list[Tensor]:
    """Return a mixture's parameter and the optimizer's moments of it, all (modules, …)."""
    state = optimizer.state.get(parameter, {})
    moments = [value for value in state.values() if isinstance(value, Tensor) and value.shape == parameter.shape]
    return [parameter.detach(), *moments]
