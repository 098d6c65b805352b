"""Continuous batching: sequences join and leave between the steps of a decoder, each with an adapter of its own.

A step prefills prompts, at most `prefill_chunk` tokens of them, and then decodes one token of every row; long rows have
a batch of their own, which may leave out steps.
An encoder runs over a sequence's source before its prompt; its keys and values lie in a cache beside the row. A beam
search has a row for each beam.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from serve.generation.admission import AdmissionQueue
from serve.generation.cache.prefix_cache import PrefixCache
from serve.generation.length_buckets import LengthBuckets
from serve.generation.model_runner import ModelRunner
from serve.generation.next_token import check_finite, choose_next, fail
from serve.generation.prompt_lookup.setting import prompt_lookup
from serve.generation.request import CacheRow, SequenceState, sequences_of
from serve.generation.running_batch import RunningBatch
from serve.generation.sampling.beam_search import BeamSearch
from serve.generation.sampling.logits import Logits
from serve.generation.step_outputs import StepLogits, step_logits
from serve.limits import GenerationLimits
from serve.loaded_model import LoadedModel

logger = logging.getLogger(__name__)
OVERTAKINGS = 64
"""Sequences that begin before one that came earlier and has no room."""
DRAWN_TOGETHER = 4
"""Least rows that are drawn in one go: fewer take longer so (0.17 ms, against 0.05 a row; 64 take 0.6)."""


class ContinuousBatchScheduler:
    """Sequences over one decoder. Any thread may submit; only one at a time may step."""

    def __init__(
        self, model: LoadedModel, limits: GenerationLimits | None = None, tokenizer: Tokenizer | None = None
    ) -> None:
        """Begin without sequences; with the tokenizer, prompt lookup knows a word with and without a space before it.

        Raises:
            BundleError: The limits ask for prompt lookup, and the model goes without.
        """
        self.limits = limits or GenerationLimits()
        self.buckets = LengthBuckets(model, self.limits)
        runner = self.buckets.runner
        self.lookup = prompt_lookup(model, runner, self.limits.prompt_lookup, tokenizer)
        self.queue = AdmissionQueue(self.limits, vocabulary=runner.vocabulary, context_length=runner.context_length)
        self.prefix_cache = PrefixCache(0 if model.encoder else self.limits.prefix_tokens)
        self.short_prompts_next = False
        """Prompts that arrived behind the one that is being prefilled have the next turn."""

    @property
    def busy(self) -> bool:
        """A step would do something."""
        return bool(len(self.queue) or self.buckets.rows or self.buckets.prefilling)

    @property
    def running_adapters(self) -> frozenset[str]:
        """Adapters of the sequences that have rows."""
        return frozenset(sequence.adapter.card.name for sequence in self.buckets.sequences())

    @property
    def waiting(self) -> int:
        """Sequences that wait for a row."""
        return len(self.queue)

    def submit(self, *sequences: SequenceState) -> None:
        """Queue sequences, all or none, from any thread.

        Raises:
            InputError: One can never be generated, or they never fit into the queue together.
            Overloaded: The queue is full.
        """
        self.queue.submit(*sequences)

    def step(self) -> None:
        """Prefill prompts, then decode one token of every row.

        A fault ends the sequences that it belongs to, or the whole batch where that is not known, and is not raised.
        """
        try:
            self.drop()
            self._prefill()
            for batch in self.buckets.due():
                self._decode(batch)
        except BaseException as error:
            self.buckets.fail_all(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            logger.exception("a step failed, and with it all sequences that have begun")

    def drop(self) -> None:
        """Remove cancelled sequences, and those that have waited too long."""
        self.queue.update()
        self.buckets.remove_cancelled()

    def _prefill(self) -> None:
        """Prefill several short prompts together, or the next chunk of a long one; with both there, in turn."""
        batch = self.buckets.prefilling
        group = [] if batch is not None and not self.short_prompts_next else self._admit()
        self.short_prompts_next = not group
        if group:
            for one in group:
                one.prompt_tokens = len(one.sequence.prompt)
            self._start_decoding(group, [one.sequence.prompt for one in group])
        elif (batch := self.buckets.prefilling) is not None:
            self._prefill_chunk(batch)

    def _prefill_chunk(self, batch: RunningBatch) -> None:
        row = batch.prefilling
        assert row is not None
        prompt = row.sequence.prompt
        chunk = prompt[row.prompt_tokens : row.prompt_tokens + self.limits.prefill_chunk]
        row.prompt_tokens += len(chunk)
        if row.prompt_tokens == len(prompt):
            batch.prefilling = None
            self._start_decoding([row], [chunk])
            return
        _run(batch.runner, [chunk], [row], first=len(batch.rows))
        if row.sequence.finish_reason is not None:
            batch.stop_prefill()

    def _start_decoding(self, group: Sequence[CacheRow], ids: Sequence[Sequence[int]]) -> None:
        """Run the last tokens of prompts of one batch, and add their rows to those that decode."""
        batch = self.buckets.of(group[0].sequence)
        first = len(batch.rows)
        batch.add_rows(group)
        names = sorted({row.sequence.adapter.card.name for row in batch.rows})
        for row in group:
            row.sequence.batch_rows, row.sequence.batch_adapters = len(batch.rows), names
        logits = _run(batch.runner, ids, group, first=first, encode=True)
        for index, row in enumerate(group, first):
            if row.sequence.finish_reason is None and self.prefix_cache.wants(row.sequence):
                self.prefix_cache.add(row.sequence, batch.runner.cache.read(index, row.prompt_tokens))
        self._choose_tokens(group, logits)
        batch.remove_finished()

    def _decode(self, batch: RunningBatch) -> None:
        """Decode one token of every row of a batch, or several where guesses are worth it."""
        rows = batch.rows
        if guessed := self.lookup.plan(rows):
            self.lookup.verify(batch.runner, guessed)
        else:
            behind = [batch.prefilling] if batch.prefilling is not None else []
            with self.lookup.costs.timed(rows=len(rows), tokens=1):
                logits = _run(batch.runner, [row.tokens[-1:] for row in rows], rows, first=0, behind=behind)
            self._choose_tokens(rows, logits)
        batch.remove_finished()

    def _admit(self) -> list[CacheRow]:
        """Return rows of one batch for sequences of the queue, in turn, as many as are prefilled in one chunk.

        A prompt that is longer, or that has a cached prefix, is prefilled alone. Meanwhile only short prompts are
        admitted, those behind another long one as well. One that has no room is overtaken by others that have, up to
        `OVERTAKINGS` times.
        """
        group: list[CacheRow] = []
        if not self.queue.waiting or self.buckets.is_full():
            return group
        longest, chunk = 0, self.limits.prefill_chunk
        passed: list[SequenceState] = []
        for sequence in islice(self.queue.in_turn(self.buckets.sequences()), self.limits.max_batch_requests):
            if group and self.buckets.of(sequence) is not self.buckets.of(group[0].sequence):
                break
            if not self.buckets.has_room(sequence, group):
                if sequence.overtaken >= OVERTAKINGS:
                    break
                passed.append(sequence)
                continue
            is_long = len(sequence.prompt) > chunk
            if is_long and self.buckets.prefilling is not None:
                continue
            prefix = self.prefix_cache.find(sequence)
            alone = is_long or prefix is not None
            if alone and self.buckets.prefilling is not None:
                continue
            longest = max(longest, len(sequence.source or sequence.prompt))
            full = longest * (len(group) + 1) > chunk
            if group and (alone or full or self.prefix_cache.shares_prefix(sequence, sequences_of(group))):
                break
            self.queue.begin(sequence)
            for other in passed:
                other.overtaken += 1
            try:
                row = self.buckets.open_row(sequence, group, prefix)
                if self.prefix_cache.max_tokens and not sequence.forced:
                    sequence.cached_tokens = row.prompt_tokens
            except Exception as error:  # reading an adapter or growing the cache may fail in any way
                fail(sequence, error)
                continue
            if alone:
                self.buckets.of(sequence).prefilling = row
                return []
            group.append(row)
            if self.buckets.is_full(group):
                break
        return group

    def _choose_tokens(self, rows: Sequence[CacheRow], logits: StepLogits) -> None:
        """Choose the next token of every sequence."""
        places = {row: index for index, row in enumerate(rows)}
        sequences = [one for one in sequences_of(rows) if one.finish_reason is None]
        drawn = _draw_together(sequences, places, logits)
        for sequence in sequences:
            own = [places[row] for row in sequence.rows]
            draw, token = drawn.get(sequence, (None, None))
            try:
                check_finite(sequence, logits, own)
                if sequence.beam_search is not None:
                    self._advance_beams(sequence, sequence.beam_search, logits.read(own))
                elif token is not None:
                    sequence.append(token)
                else:
                    choose_next(sequence, logits, own[0], draw=draw)
            except Exception as error:  # a fault of one sequence leaves the others alone
                fail(sequence, error)

    def _advance_beams(self, sequence: SequenceState, search: BeamSearch, logits: Logits) -> None:
        """Extend the beams of a sequence by one token, or append the best hypothesis if the search is over."""
        sources = search.advance(logits)
        if not search.done:
            self.buckets.of(sequence).reorder_beams(sequence, sources, search.beams)
            return
        for token in search.finished[0].tokens:
            sequence.append(token)


def _draw_together(
    sequences: Sequence[SequenceState], places: Mapping[CacheRow, int], logits: StepLogits
) -> dict[SequenceState, tuple[float, int | None]]:
    """Return the numbers and the tokens that rows draw in one go, from the candidates that a device has found.

    A token is None where the row's candidates do not decide it.
    """
    if logits.candidates is None:
        return {}
    plain = [
        one
        for one in sequences
        if one.sampling.only_draws
        and not (one.mask or one.is_reading or one.beam_search or one.max_new_tokens == 0)
        and logits.is_finite[places[one.rows[0]]]
    ]
    if len(plain) < DRAWN_TOGETHER:
        return {}
    draws = [one.random.random() for one in plain]
    rows = [places[one.rows[0]] for one in plain]
    tokens = logits.candidates().draw(rows, [one.sampling for one in plain], draws)
    return dict(zip(plain, zip(draws, tokens, strict=True), strict=True))


def _run(
    runner: ModelRunner,
    ids: Sequence[Sequence[int]],
    rows: Sequence[CacheRow],
    *,
    first: int,
    encode: bool = False,
    behind: Sequence[CacheRow] | None = None,
) -> StepLogits:
    """Run the new tokens of rows that lie in the cache from row `first` on; `behind` is that of the runner.

    Rows that cannot run together are run by halves, down to those at fault: these fail, and their logits are NaN.
    """
    try:
        if encode:
            runner.encode(rows, first=first)
        return runner.run(ids, rows, first=first, behind=behind)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        refusal = error
    if len(rows) > 1:
        half = len(rows) // 2
        before = _run(runner, ids[:half], rows[:half], first=first, encode=encode).all()
        after = _run(runner, ids[half:], rows[half:], first=first + half, encode=encode).all()
        return step_logits(np.concatenate([before, after]))
    fail(rows[0].sequence, refusal)
    return step_logits(np.full((1, runner.vocabulary), np.nan, np.float32))
