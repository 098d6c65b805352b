"""Facts that a checkpoint of another tool does not state, and how closely a bank must hold it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts given by the user; None takes what the checkpoint's or the base's configuration states."""

    labels: tuple[str, ...] | None = None
    """Names of the labels in the order of the logits."""
    task: str | None = None
    """Key of `adamix_train.tasks.table.TASKS`."""
    max_length: int | None = None
    """Tokens to which inputs are truncated, special tokens included."""
    rank: int | None = None
    """Largest rank of the LoRA as which a bank holds a method that it does not hold exactly."""
    rank_energy: float | None = None
    """Share of the sum of squares of each layer's change that this LoRA keeps at least, unless `rank` is smaller. With
    neither, such a method is refused."""
    prompt: str | None = None
    """Template of a generator's prompt; `{input}` stands for the client's text."""


NONE = Facts()
"""No fact is given."""
