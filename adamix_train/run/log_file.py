"""The log of a run while it trains: one JSON object a line, for programs that follow it."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LOG = "log.jsonl"


class LogFile(TrainerCallback):
    """Writes what the Trainer logs: losses and metrics with their step, epoch, and the step at which the run ends."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the file with what a resumed run has logged up to its checkpoint."""
        self._write(args, state, state.log_history, mode="w")

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the newest entry."""
        self._write(args, state, state.log_history[-1:], mode="a")

    def _write(self, args: TrainingArguments, state: TrainerState, entries: list[dict[str, Any]], *, mode: str) -> None:
        if not state.is_world_process_zero:
            return
        assert args.output_dir is not None
        with (Path(args.output_dir) / LOG).open(mode, encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps({**entry, 'max_steps': state.max_steps})}\n" for entry in entries)
