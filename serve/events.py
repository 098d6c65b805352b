"""Events of engines, which metrics, logs and traces are made of; times are seconds of `time.monotonic`."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve.generated_text import FinishReason
from serve.request_context import RequestContext

Requests = Sequence[RequestContext | None]
"""Requests that an event belongs to; None for texts that no protocol asked for."""


class Stage(enum.StrEnum):
    """Work on one request."""

    TOKENIZE = "tokenize"
    COMPILE_GRAMMAR = "compile_grammar"
    CLASSIFY = "classify"
    """Queue and runs of a request that ends with an error or is given up; of others there are events of their own."""
    GENERATE = "generate"
    """The same of a request to generate."""


ONLY_FAILED = frozenset({Stage.CLASSIFY, Stage.GENERATE})
"""Stages that are reported if they fail."""


@dataclass(frozen=True, kw_only=True)
class StageFinished:
    """A stage of one request has ended; reported for requests of protocols alone."""

    stage: Stage
    requests: Requests
    """The one request."""
    start_time: float
    seconds: float
    error: str | None = None
    """Class of the error that it ended with; None if it succeeded."""


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
    row_tokens: Sequence[int] = ()
    """Tokens of each row."""
    queued_times: Sequence[float] = ()
    """Arrival of each row in the queue."""
    requests: Requests = ()
    """The request of each row."""


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
    guessed_tokens: int = 0
    """Tokens that were verified because the prompt or the text itself foretold them."""
    accepted_tokens: int = 0
    """Those of them that are in the text."""
    token_seconds: Sequence[float] = ()
    """Times between one token and the next, the one that ended the text included; empty for a beam search."""
    arrival_time: float = 0.0
    """Time at which its request came, before the prompt was tokenized."""
    submit_time: float = 0.0
    begin_time: float | None = None
    """Time at which it left the queue; None if it ended there."""
    first_token_time: float | None = None
    finish_time: float = 0.0
    batch_rows: int = 0
    """Rows that decoded when it joined them, its own included; 0 if it never did."""
    batch_adapters: Sequence[str] = ()
    """Adapters of those rows."""
    requests: Requests = ()
    """The one request."""

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


Event = StageFinished | BatchFinished | SequenceFinished
Listener = Callable[[Event], None]
