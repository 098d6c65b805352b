"""The running batches of a decoder, one for each range of lengths, which share its rows, its cache and its time.

Every row of a batch is charged, and held in memory, as the longest; with batches by length a short text beside a long
one costs what it needs itself.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from serve.generation.cache.prefix_cache import Prefix
from serve.generation.model_runner import ModelRunner
from serve.generation.request import CacheRow, SequenceState, sequences_of
from serve.generation.running_batch import RunningBatch
from serve.limits import GenerationLimits
from serve.loaded_model import LoadedModel

LEAST_SHARE = 1 / 7
"""Share of the time of decoding that a batch gets at least, however few its rows: others take 1.17 times as long."""


class LengthBuckets:
    """Batches by the length of their rows, the shortest first."""

    def __init__(self, model: LoadedModel, limits: GenerationLimits) -> None:
        self.limits = limits
        self.bank = model.bank
        count = 1 if model.encoder else 2  # behind an encoder the sources would have lengths of their own
        self.batches = [
            RunningBatch(ModelRunner(model, max_tokens=limits.max_tokens_in_flight), model.bank) for _ in range(count)
        ]
        self.seconds = [0.0] * count
        """Time that each batch has decoded while `beside` were the ones with rows."""
        self.beside: list[int] = []

    @property
    def runner(self) -> ModelRunner:
        """One of the runners, for what they have in common."""
        return self.batches[0].runner

    @property
    def rows(self) -> list[CacheRow]:
        """Rows that decode."""
        return [row for batch in self.batches for row in batch.rows]

    @property
    def prefilling(self) -> RunningBatch | None:
        """The batch that has a row whose prompt is being prefilled in chunks: one at most."""
        return next((batch for batch in self.batches if batch.prefilling is not None), None)

    @property
    def tokens_in_flight(self) -> int:
        """KV-cache tokens that the sequences may need."""
        return sum(batch.tokens_in_flight for batch in self.batches)

    def sequences(self) -> list[SequenceState]:
        """Return the sequences that have rows."""
        return [sequence for batch in self.batches for sequence in batch.sequences()]

    def of(self, sequence: SequenceState) -> RunningBatch:
        """Return the batch for a sequence."""
        is_long = sequence.max_length > self.limits.long_row_tokens
        return self.batches[-1 if is_long else 0]

    def is_full(self, joining: Sequence[CacheRow] = ()) -> bool:
        """Return True if no row is left beside those of all sequences, the ones of `joining` included."""
        sequences = [*self.sequences(), *sequences_of(joining)]
        return sum(sequence.sampling.num_beams for sequence in sequences) >= self.limits.max_batch_requests

    def has_room(self, sequence: SequenceState, joining: Sequence[CacheRow]) -> bool:
        """Return True if a sequence fits beside those that have rows, the rows `joining` of its batch included."""
        wanted = self.of(sequence)
        loads = [
            batch.load([*batch.sequences(joining), sequence] if batch is wanted else batch.sequences())
            for batch in self.batches
        ]
        if sum(load.rows for load in loads) > self.limits.max_batch_requests:
            return False
        if sum(load.charge for load in loads) > self.limits.max_tokens_in_flight:
            return False
        return self.bank is None or self.bank.can_acquire(sequence.adapter) or not (self.sequences() or joining)

    def open_row(self, sequence: SequenceState, joining: Sequence[CacheRow], prefix: Prefix | None) -> CacheRow:
        """Return a row for a sequence in its batch, as `RunningBatch.open_row` does; other batches leave it room."""
        wanted = self.of(sequence)
        others = [batch for batch in self.batches if batch is not wanted]
        needed = wanted.load([*wanted.sequences(joining), sequence]).charge
        held = sum(batch.runner.held_tokens for batch in others)
        if needed + held > self.limits.max_tokens_in_flight:
            for batch in others:
                batch.give_back()
            held = sum(batch.runner.held_tokens for batch in others)
        wanted.runner.limit(self.limits.max_tokens_in_flight - held)
        return wanted.open_row(sequence, joining, prefix)

    def due(self) -> Iterator[RunningBatch]:
        """Yield the batches that decode in a step.

        Each has the share of the time that it has of the rows, but at least `LEAST_SHARE`: the batch with the most rows
        decodes in every step, the other one while it has had less than its share.
        """
        found = [index for index, batch in enumerate(self.batches) if batch.rows]
        found.sort(key=lambda index: len(self.batches[index].rows), reverse=True)
        if found != self.beside:
            self.beside, self.seconds = found, [0.0] * len(self.seconds)
        rows = sum(len(batch.rows) for batch in self.batches)
        for place, index in enumerate(found):
            share = max(LEAST_SHARE, len(self.batches[index].rows) / rows)
            if place == 0 or self.seconds[index] <= share * sum(self.seconds):
                with self._timed(index):
                    yield self.batches[index]

    def remove_cancelled(self) -> None:
        """End cancelled sequences and remove their rows."""
        for batch in self.batches:
            batch.remove_cancelled()

    def fail_all(self, error: BaseException) -> None:
        """End all sequences with an error."""
        for batch in self.batches:
            batch.fail_all(error)

    @contextmanager
    def _timed(self, index: int) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[index] += time.perf_counter() - begin
