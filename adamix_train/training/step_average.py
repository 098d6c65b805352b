"""The mean of the weights over steps: of the last ones (Izmailov et al., 2018), or exponential and moving."""

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from adamix_train.artifacts.checkpoint import STEP_AVERAGE
from adamix_train.errors import CheckpointError
from adamix_train.recipe.average import Average

COUNT = "steps"
logger = logging.getLogger(__name__)


class StepAverage(TrainerCallback):
    """Averages the trained weights over steps, and makes the mean the model's weights when training ends.

    It is kept in fp32, and with every checkpoint, so that a resumed run ends with the same mean.

    Args:
        average: The rule.
        resumed: Step checkpoint from which the run goes on.
    """

    def __init__(self, average: Average, resumed: Path | None = None) -> None:
        self.average = average
        self.mean: dict[str, Tensor] = {}
        self.count = 0
        self.resumed = resumed

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from the mean of the checkpoint; raise CheckpointError if it should have one and does not."""
        if self.resumed is None or state.global_step <= self._first(state):
            return
        file = self.resumed / STEP_AVERAGE
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, so that the mean over steps cannot go on: begin a new run")
        self.mean = load_file(file)
        self.count = int(self.mean.pop(COUNT))

    def _first(self, state: Any) -> int:
        """Return the number of steps before the mean begins."""
        if self.average.rule == "ema":
            return 0
        return min(state.max_steps - round(self.average.value * state.max_steps), state.max_steps - 1)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take a step's weights into the mean: m + (w - m) / n, or m + (1 - decay) (w - m)."""
        if state.global_step <= self._first(state):
            return
        self.count += 1
        share = 1 / self.count if self.average.rule == "last" or self.count == 1 else 1 - self.average.value
        for name, weight in _trained(model):
            value = weight.detach().float()
            self.mean[name] = torch.lerp(self.mean[name].to(value), value, share) if self.count > 1 else value.clone()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the mean into the checkpoint of this step."""
        if self.mean and state.is_world_process_zero:
            tensors = {name: weight.cpu().contiguous() for name, weight in self.mean.items()}
            save_file(
                tensors | {COUNT: torch.tensor(self.count)},
                Path(args.output_dir) / f"checkpoint-{state.global_step}" / STEP_AVERAGE,
            )

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Give the model the mean instead of the best checkpoint's weights."""
        if not self.mean:
            logger.warning(
                "the run ended after %d of %d steps, before the mean over the last of them began: the best checkpoint "
                "is kept instead",
                state.global_step,
                state.max_steps,
            )
        with torch.no_grad():
            for name, weight in _trained(model):
                if name in self.mean:
                    weight.copy_(self.mean[name])


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
