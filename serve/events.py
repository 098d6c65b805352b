"""Events of engines, which metrics, logs and traces are made of; times are seconds of `time.monotonic`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve.generated_text import FinishReason


@dataclass(frozen=True, kw_only=True)
class BatchFinished:
    """One batch of a classifier has run."""

    adapters: Sequence[str]
    """The adapter of each row."""
    distinct_adapters: int
    tokens: int
    padding_tokens: int
    queue_seconds: float
    """Wait of the batch's oldest row."""
    run_seconds: float
    start_time: float = 0.0
    """Time at which the run began."""
    queued_times: Sequence[float] = ()
    """Arrival of each row in the queue."""


@dataclass(frozen=True, kw_only=True)
class SequenceFinished:
    """One sequence of a generator has ended, by itself or because nobody waits for it any more."""

    adapter: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    first_token_seconds: float | None
    """From arrival to the first token; None if there was none."""
    decode_seconds: float | None
    """From the first token to the end; None if there was none."""
    cached_tokens: int | None = None
    """Tokens of the prompt whose states came from the prefix cache; None if it was not asked."""
    token_seconds: Sequence[float] = ()
    """Times between one token and the next, the one that ended the text included; empty for a beam search."""
    arrival_time: float = 0.0
    """Time at which its request came, before the prompt was tokenized."""
    submit_time: float = 0.0
    begin_time: float | None = None
    """Time at which it left the queue; None if it ended there."""
    finish_time: float = 0.0

    @property
    def queue_seconds(self) -> float | None:
        """Wait in the queue; None if it ended there."""
        return None if self.begin_time is None else self.begin_time - self.submit_time

    @property
    def prefill_seconds(self) -> float | None:
        """From the queue to the first token; None if there was none."""
        if self.begin_time is None or self.first_token_seconds is None:
            return None
        return self.arrival_time + self.first_token_seconds - self.begin_time

    @property
    def total_seconds(self) -> float:
        """From arrival to the end."""
        return self.finish_time - self.arrival_time


Event = BatchFinished | SequenceFinished
Listener = Callable[[Event], None]
