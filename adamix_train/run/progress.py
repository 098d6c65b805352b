"""The progress bar of a run, on stderr, with the newest loss and metric."""

from typing import Any

from tqdm.std import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adamix_cli.progress_bar import progress_bar


class ProgressBar(TrainerCallback):
    """Shows the steps of training, and what the Trainer logs beside the bar instead of on separate lines."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.bar: tqdm[Any] | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self.bar = progress_bar(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest loss and validation metric."""
        if self.bar is not None and logs:
            names = {"loss": "loss", f"eval_{self.metric}": f"validation {self.metric}"}
            self.shown |= {names[name]: f"{float(value):.3f}" for name, value in logs.items() if name in names}
            self.bar.set_postfix(self.shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
