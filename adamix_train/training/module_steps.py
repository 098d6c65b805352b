"""Changes of modules between steps: they begin as copies of one module, and are pulled to their mean."""

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from adamix_train.mixture.projection import mixtures
from adamix_train.training.unselected import stacks_of


def steps_alone(split_after: float, max_steps: int) -> int:
    """Return in how many steps, of `max_steps`, the first modules are trained alone."""
    return round(split_after * max_steps)


class Split(TrainerCallback):
    """Trains one module of each mixture for a share of the steps, and then all, which begin as copies of it.

    Meanwhile the Trainer routes all rows to the first module. After each of these steps it is copied, with its moments
    in AdamW, to the others: whatever is evaluated, saved, pulled or averaged is that one module.
    """

    def __init__(self, split_after: float) -> None:
        self.split_after = split_after

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Make all modules the first, unless they have parted in a run that is resumed.

        They weigh the same; earlier versions stored the first alone in a checkpoint from before the split.
        """
        for mixture in mixtures(model):
            mixture.keep_only(None)
        self._copy_first(state, model, optimizer)

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Undo what momentum and weight decay did to the modules that were not trained."""
        self._copy_first(state, model, optimizer)

    def _copy_first(self, state: Any, model: Any, optimizer: Any) -> None:
        if state.global_step > steps_alone(self.split_after, state.max_steps):
            return
        with torch.no_grad():
            for mixture in mixtures(model):
                for parameter in mixture.parameters():
                    for stack in stacks_of(optimizer, parameter):
                        stack[1:] = stack[0]


class Pull(TrainerCallback):
    """Moves every module by a share of the way towards the mean of its mixture after each step."""

    def __init__(self, share: float) -> None:
        self.share = share

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Move the modules: w + share · (mean - w)."""
        with torch.no_grad():
            for mixture in mixtures(model):
                for parameter in mixture.parameters():
                    parameter.lerp_(parameter.mean(0, keepdim=True).expand_as(parameter), self.share)


def multiply_rates(optimizer: Any, model: nn.Module, factor: float) -> None:
    """Multiply the learning rate of the weights that several modules have, before the first step.

    Every group of the optimizer is divided into those weights and the others.
    """
    unshared = {id(parameter) for mixture in mixtures(model) for parameter in mixture.parameters()}
    for group in list(optimizer.param_groups):
        modules = [parameter for parameter in group["params"] if id(parameter) in unshared]
        if not modules:
            continue
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in unshared]
        settings = {name: value for name, value in group.items() if name != "params"}
        optimizer.add_param_group({**settings, "params": modules, "lr": factor * group["lr"]})
