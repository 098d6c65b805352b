"""Step checkpoints of a Trainer, written without pickles and whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import Trainer

from adamix_train.artifacts.checkpoint import OPTIMIZER, whole_checkpoints
from adamix_train.artifacts.training_state import load_random_state, load_state, save_random_state, save_state
from adamix_train.errors import CheckpointError, TrainingError

SCALER = "scaler.safetensors"
RNG = "rng_state_{rank}.safetensors"


class CheckpointingTrainer(Trainer):
    """`transformers.Trainer` whose optimizer, schedule and random state are kept as safetensors.

    A checkpoint with weights that are not finite is not written, and an error of the disk leaves the older ones.
    """

    def _check(self, value: Tensor, what: str, step: int) -> None:
        """Raise TrainingError if `value` is not finite, before the model is saved."""
        if torch.isfinite(value):
            return
        raise TrainingError(
            f"{what} is {value.item()} at step {step}: {self._kept()}; train again with a lower --learning-rate, or "
            "another --precision"
        )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a step checkpoint; if that fails, remove its part and keep the older checkpoints."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        trained = [weight.detach().sum() for weight in self.model.parameters() if weight.requires_grad]
        self._check(torch.stack(trained).sum(), "the sum of the weights", self.state.global_step)
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise CheckpointError(
                f"{folder} could not be written: {error}; {self._kept()}: make room and go on with --resume"
            ) from error

    def _kept(self) -> str:
        kept = whole_checkpoints(Path(self.args.output_dir))
        return f"the last good checkpoint is {kept[-1]}" if kept else "there was no checkpoint yet"

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.args.should_save:
            state = {"optimizer": self.optimizer.state_dict(), "schedule": self.lr_scheduler.state_dict()}
            save_state(state, Path(output_dir) / OPTIMIZER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (file := Path(checkpoint) / OPTIMIZER).is_file():
            state = load_state(file)
            self.optimizer.load_state_dict(state["optimizer"])
            self.lr_scheduler.load_state_dict(state["schedule"])

    def _save_scaler(self, output_dir: str) -> None:
        if self.accelerator.scaler is not None and self.args.should_save:
            save_state(self.accelerator.scaler.state_dict(), Path(output_dir) / SCALER)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (file := Path(checkpoint) / SCALER).is_file():
            self.accelerator.scaler.load_state_dict(load_state(file))

    def _save_rng_state(self, output_dir: str) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_random_state(Path(output_dir) / RNG.format(rank=self.args.process_index))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        check_processes(Path(checkpoint), self.args.world_size)
        load_random_state(Path(checkpoint) / RNG.format(rank=self.args.process_index))


def check_processes(checkpoint: Path, processes: int) -> None:
    """Raise CheckpointError if another number of processes wrote a step checkpoint: each stored its random state."""
    written = len(list(checkpoint.glob(RNG.format(rank="*"))))
    if written != processes:
        raise CheckpointError(
            f"{checkpoint} was written by {written} processes and this run has {processes}: resume it with as many"
        )
