"""End a run with a checkpoint on Ctrl-C or SIGTERM."""

import signal
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from adamix_train.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(TrainerCallback):
    """Ends training with a checkpoint after the step in which a signal arrives; a second signal ends it at once.

    A signal to one of several processes ends all of them after the same step.
    """

    def __init__(self) -> None:
        self.signal = 0
        """Number of the signal that arrived, here or in another process; 0 before."""
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in SIGNALS:
            try:
                self.previous[number] = signal.signal(number, self._note)
            except ValueError:  # only the main thread can set handlers; elsewhere signals keep theirs
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous.clear()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Request a checkpoint; at the end of an epoch one follows anyway, after its evaluation."""
        self.signal = self._signalled_anywhere()
        at_epoch_end = args.save_strategy == SaveStrategy.EPOCH and float(state.epoch or 0).is_integer()
        if self.signal and not at_epoch_end:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raise Interrupted: the Trainer's own end would delete the checkpoint if another one is better.

        The processes agree again: a signal may have reached one of them in the evaluation before the checkpoint.
        """
        self.signal = self._signalled_anywhere()
        if self.signal:
            PartialState().wait_for_everyone()  # all have saved before the first ends, which ends the others
            message = f"interrupted after step {state.global_step}; repeat the command with --resume to go on"
            raise Interrupted(message, self.signal)

    def _signalled_anywhere(self) -> int:
        state = PartialState()
        if state.num_processes == 1:
            return self.signal
        largest = torch.tensor(float(self.signal), device=state.device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()
