"""A running batch: the rows of a KV cache that are in use, and the sequences in them.

Rows lie one behind another: first those that decode, then the one whose prompt is being prefilled in chunks, so that a
run touches only the rows that it works on. When a sequence ends, the last row takes its place.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from serve.adapters.bank import Bank
from serve.generated_text import FinishReason
from serve.generation.cache.prefix_cache import Prefix
from serve.generation.model_runner import ModelRunner
from serve.generation.request import CacheRow, SequenceState, sequences_of
from serve.generation.sampling.beam_search import BeamSearch

logger = logging.getLogger(__name__)


class RunningBatch:
    """Rows that decode, and at most one that is being prefilled."""

    def __init__(self, runner: ModelRunner, bank: Bank | None) -> None:
        self.runner, self.bank = runner, bank
        self.rows: list[CacheRow] = []
        """Rows that decode, in the order of the cache."""
        self.prefilling: CacheRow | None = None
        """The row behind them, whose prompt is longer than a chunk or begins with a cached prefix."""

    @property
    def tokens_in_flight(self) -> int:
        """KV-cache tokens that the sequences may need."""
        return self.load(self.sequences()).charge

    def sequences(self, joining: Sequence[CacheRow] = ()) -> list[SequenceState]:
        """Return the sequences that have rows, those of `joining` included."""
        prefilling = self.prefilling  # read once: other threads count tokens
        return sequences_of([*self.rows, *joining, *([prefilling] if prefilling else [])])

    def load(self, sequences: Sequence[SequenceState]) -> "Load":
        """Return what sequences of this batch need of its cache: every row is as long as the longest."""
        rows = tokens = source_tokens = 0
        for sequence in sequences:  # in one go: every text that joins asks for it
            rows += sequence.sampling.num_beams
            tokens = max(tokens, sequence.max_length)
            source_tokens = max(source_tokens, len(sequence.source))
        return Load(rows=rows, tokens=tokens, source_tokens=source_tokens)

    def open_row(self, sequence: SequenceState, joining: Sequence[CacheRow], prefix: Prefix | None) -> CacheRow:
        """Return a row for a sequence, with its adapter in a slot, room in the cache, and the cached prefix in it.

        Raises:
            BundleError: The adapter cannot be read from disk again.
            Overloaded: Memory is short.
        """
        if self.bank is not None:
            slots, _ = sequence.acquired.enter_context(self.bank.acquire([sequence.adapter]))
            sequence.slot = int(slots[0])
        wanted = self.load([*self.sequences(joining), sequence])
        self.runner.reserve(wanted.rows, tokens=wanted.tokens, source_tokens=wanted.source_tokens)
        if sequence.sampling.num_beams > 1:
            eos = sequence.adapter.card.eos_token_ids
            sequence.beam_search = BeamSearch(sequence.prompt, sequence.sampling, eos, sequence.max_new_tokens)
        if prefix is not None:
            self.runner.cache.write(len(self.rows), prefix.states, prefix.tokens)
        row = CacheRow(sequence, sequence.new_tokens, prefix.tokens if prefix else 0)
        sequence.rows = [row]
        return row

    def give_back(self) -> None:
        """Keep no more of the cache than the sequences need."""
        wanted = self.load(self.sequences())
        self.runner.shrink(wanted.rows, tokens=wanted.tokens)

    def add_rows(self, rows: Sequence[CacheRow]) -> None:
        """Put rows behind those that decode, and before the one that is being prefilled."""
        count = len(self.rows)
        self.rows += rows
        if self.prefilling is not None and rows:
            self._move(count, len(self.rows), self.prefilling)

    def remove_cancelled(self) -> None:
        """End cancelled sequences and remove their rows."""
        if self.prefilling is not None and self.prefilling.sequence.cancelled:
            self.prefilling.sequence.finish(FinishReason.CANCELLED)
            self.stop_prefill()
        for row in self.rows:
            if row.sequence.cancelled:
                row.sequence.finish(FinishReason.CANCELLED)
        self.remove_finished()

    def remove_finished(self) -> None:
        """Remove the rows of sequences that have ended; the last row takes the place of each."""
        count = len(self.rows)
        for index in range(count - 1, -1, -1):
            sequence = self.rows[index].sequence
            if sequence.finish_reason is None:
                continue
            if sequence.error is not None:
                self.runner.clear(index)
            last = self.rows.pop()
            if index < len(self.rows):
                self._move(len(self.rows), index, last)
                self.rows[index] = last
        if self.prefilling is not None and len(self.rows) < count:
            self._move(count, len(self.rows), self.prefilling)

    def stop_prefill(self) -> None:
        """Remove the row that is being prefilled."""
        self.runner.clear(len(self.rows))
        self.prefilling = None

    def reorder_beams(self, sequence: SequenceState, sources: Sequence[int], beams: Sequence[list[int]]) -> None:
        """Give each new beam of a sequence a row with the states of the beam that it continues.

        A beam keeps its row; where two continue the same one, the second gets a copy in a free row.

        Args:
            sequence: A sequence with a beam search.
            sources: For each new beam, the index of the old one that it continues.
            beams: Generated tokens of each new beam.
        """
        before = sequence.rows
        cached_tokens = before[0].prompt_tokens + len(beams[0]) - 1
        free = [row for at, row in enumerate(before) if at not in sources]
        free += [CacheRow(sequence, [], before[0].prompt_tokens) for _ in range(len(sources) - len(before))]
        self.add_rows([row for row in free if row not in before])
        after: list[CacheRow] = []
        kept: set[int] = set()
        for source in sources:
            after.append(before[source] if source not in kept else free.pop(0))
            if source in kept:
                places = self.rows.index(before[source]), self.rows.index(after[-1])
                self.runner.move(*places, tokens=cached_tokens, source_tokens=len(sequence.source))
            kept.add(source)
        for row, beam in zip(after, beams, strict=True):
            row.tokens = beam
        sequence.rows = after

    def fail_all(self, error: BaseException) -> None:
        """End all sequences with an error, and clear their rows; a device that is lost has none to clear."""
        for sequence in self.sequences():
            sequence.fail(error)
        self.rows, self.prefilling = [], None
        try:
            for row in range(self.runner.cache.rows):
                self.runner.clear(row)
        except Exception:  # ONNX Runtime's exceptions share no base class
            logger.exception("the rows of the KV cache cannot be cleared")

    def _move(self, source: int, target: int, row: CacheRow) -> None:
        self.runner.move(source, target, tokens=row.cached_tokens, source_tokens=len(row.source))


@dataclass(frozen=True, kw_only=True)
class Load:
    """The part of a KV cache that sequences need."""

    rows: int
    tokens: int
    """Tokens of the longest row."""
    source_tokens: int
    """Tokens of the encoder's input, of the longest row."""

    @property
    def charge(self) -> int:
        """Tokens of the cache that are taken."""
        return self.rows * (self.tokens + self.source_tokens)
