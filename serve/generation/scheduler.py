"""Continuous batching: rows join and leave between the steps of a decoder, each with an adapter of its own.

A step reads prompts, at most `chunk` tokens of them, and then writes one token in every live row. Rows lie in the cache
one after another: those that write come first, then the one whose prompt is being read, so that a run touches only what
it works on. When a row ends, the last one takes its place.

An encoder reads a source before its row begins; what the decoder reads of it lies beside the row in a cache of its own.
A beam search has a row for each beam, and copies what a beam goes on from.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice

import numpy as np
import onnxruntime as ort

from serve.adapters.bank import Bank
from serve.bundle.config import context_of
from serve.bundle.reader import Bundle
from serve.errors import DeadlineExceeded, Failed, InputError, Overloaded, ServeError
from serve.generation.cache.prefix_cache import Prefixes
from serve.generation.limits import MOST_NEW_TOKENS, Pool
from serve.generation.model_runner import Decoder
from serve.generation.request import Generation, Row
from serve.generation.sampling.beam_search import Beams
from serve.generation.sampling.logits import Logits
from serve.runtime.buffers import HOST, States

logger = logging.getLogger(__name__)


class Engine:
    """The rows in flight over one decoder; whoever calls it does so from one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        session: ort.InferenceSession,
        bank: Bank | None,
        pool: Pool | None = None,
        encoder: ort.InferenceSession | None = None,
        *,
        device: str = HOST,
    ) -> None:
        self.bank, self.pool = bank, pool or Pool()
        self.decoder = Decoder(bundle, session, bank, encoder, tokens=self.pool.tokens, device=device)
        self.context = None if encoder else context_of(bundle)
        self.arrived: deque[Generation] = deque()
        """By any thread; taken over by the next step."""
        self.waiting: deque[Generation] = deque()
        self.live: list[Row] = []
        self.reading: Row | None = None
        """Whose prompt is longer than a chunk, or begins like one that was kept."""
        self.yields = False
        """Whether it is the turn of prompts that came after that one."""
        self.prefixes = Prefixes(0 if encoder else self.pool.prefix_tokens)

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.arrived or self.waiting or self.live or self.reading)

    @property
    def queued(self) -> int:
        """How many texts wait for a row."""
        return len(self.arrived) + len(self.waiting)

    @property
    def in_flight(self) -> int:
        """Tokens of the cache that the rows may come to need."""
        return _room(self._inside())

    def submit(self, *generations: Generation) -> None:
        """Queue texts, all or none, from any thread; an error if one can never be written, or not now."""
        for generation in generations:
            self._check(generation)
        self.check_count(len(generations))
        if self.queued + len(generations) > self.pool.queued:
            raise Overloaded(f"{self.queued} texts wait already: try again later")
        for generation in generations:
            generation.submitted = time.monotonic()
            self.arrived.append(generation)

    def check_count(self, count: int) -> None:
        """Raise an error if so many texts can never wait together."""
        if count > self.pool.queued:
            raise InputError(f"{count} texts at once: at most {self.pool.queued} may wait, ask for fewer")

    def step(self) -> None:
        """Read some of the prompts, then write one token in every live row.

        Whatever goes wrong ends texts and not the caller: those that it went wrong with, or all that are being written
        if that cannot be told.
        """
        try:
            self.drop()
            self._read()
            if self.live:
                self._write()
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            logger.exception("a step failed, and with it all texts that were being written")

    def drop(self) -> None:
        """Take out what nobody waits for, and what has waited too long."""
        while self.arrived:
            self.waiting.append(self.arrived.popleft())
        self._drop_cancelled()
        self._drop_late()

    def _check(self, generation: Generation) -> None:
        """Raise an error if a text can never be written; otherwise settle how long it may become."""
        prompt, sampling = len(generation.reads), generation.sampling
        if not prompt:
            raise InputError("the prompt is empty")
        if sampling.beams > self.pool.rows:
            raise InputError(f"a search with {sampling.beams} beams needs as many rows; there are {self.pool.rows}")
        tokens = self.decoder.vocabulary
        if foreign := [token for token in sampling.logit_bias if not 0 <= token < tokens]:
            raise InputError(f"logit_bias names token {foreign[0]}: there are 0 to {tokens - 1}")
        room = self.pool.tokens // sampling.beams - len(generation.prompt) - len(generation.source)
        bound = f"{self.pool.tokens} tokens may be in flight"
        if self.context is not None and self.context - prompt < room:
            room, bound = self.context - prompt, f"the model's context has {self.context}"
        asked = sampling.max_new_tokens
        generation.most = max(1, min(MOST_NEW_TOKENS, room)) if asked is None else asked
        if generation.most > room:
            times = f", times {sampling.beams} beams," if sampling.beams > 1 else ""
            raise InputError(f"the prompt's {prompt} tokens and {generation.most} more{times} never fit: {bound}")

    def _drop_cancelled(self) -> None:
        for generation in [generation for generation in self.waiting if generation.cancelled]:
            self.waiting.remove(generation)
            generation.end("cancelled")
        if self.reading is not None and self.reading.generation.cancelled:
            self.reading.generation.end("cancelled")
            self._stop_reading()
        for row in self.live:
            if row.generation.cancelled:
                row.generation.end("cancelled")
        self._leave()

    def _drop_late(self) -> None:
        """Fail the texts that waited too long; the queue has the oldest first."""
        while self.waiting and time.monotonic() - self.waiting[0].submitted > self.pool.timeout:
            late = DeadlineExceeded(f"no row was free within {self.pool.timeout:g} s: try again later")
            self.waiting.popleft().fail(late)

    def _read(self) -> None:
        """Read the next chunk of a prompt, or several short prompts together; with both there, each in its turn."""
        group = [] if self.reading is not None and not self.yields else self._admit()
        self.yields = not group
        if group:
            for one in group:
                one.read = len(one.generation.prompt)
            self._begin(group, [one.generation.prompt for one in group])
        elif row := self.reading:
            prompt = row.generation.prompt
            chunk = prompt[row.read : row.read + self.pool.chunk]
            row.read += len(chunk)
            if row.read == len(prompt):
                self.reading = None
                self._begin([row], [chunk])
            else:
                self._run([chunk], [row], first=len(self.live))
                if row.generation.ended is not None:
                    self._stop_reading()

    def _stop_reading(self) -> None:
        self.decoder.clear(len(self.live))
        self.reading = None

    def _begin(self, group: Sequence[Row], ids: Sequence[Sequence[int]]) -> None:
        """Run the last of the prompts of rows, which then begin to write."""
        first = len(self.live)
        self._join(group)
        logits = self._run(ids, group, first=first, encode=True)
        for index, row in enumerate(group, first):
            if row.generation.ended is None and self.prefixes.wants(row.generation):
                self.prefixes.keep(row.generation, self.decoder.cache.read(index, row.read))
        self._take(group, logits)
        self._leave()

    def _write(self) -> None:
        """Write one token in every live row."""
        logits = self._run([row.tokens[-1:] for row in self.live], self.live, first=0)
        self._take(self.live, logits)
        self._leave()

    def _admit(self) -> list[Row]:
        """Take from the queue, in its order, what has room and is read in one chunk; a longer prompt is read alone.

        While one is, only short prompts are taken, those behind another long one as well.
        """
        group: list[Row] = []
        longest = 0
        for generation in list(islice(self.waiting, self.pool.rows)):
            if not self._has_room(generation, group):
                break
            long = len(generation.prompt) > self.pool.chunk
            if long and self.reading is not None:
                continue
            states, known = self.prefixes.find(generation)
            alone = long or known > 0
            if alone and self.reading is not None:
                continue
            longest = max(longest, len(generation.reads))
            full = longest * (len(group) + 1) > self.pool.chunk
            if group and (alone or full or self.prefixes.shared(generation, [row.generation for row in group])):
                break
            self.waiting.remove(generation)
            try:
                row = self._row(generation, group, states, known)
            except Exception as error:
                _fail(generation, error)
                continue
            if alone:
                self.reading = row
                return []
            group.append(row)
        return group

    def _has_room(self, generation: Generation, group: Sequence[Row]) -> bool:
        inside = self._inside(group)
        if _rows([*inside, generation]) > self.pool.rows or _room([*inside, generation]) > self.pool.tokens:
            return False
        return self.bank is None or self.bank.has_room(generation.adapter) or not inside

    def _row(self, generation: Generation, group: Sequence[Row], states: States | None, known: int) -> Row:
        """Return a text's row, with its adapter in a slot, and room in the cache.

        `states` of the first `known` tokens of its prompt are in the cache already, if there are any.
        """
        if self.bank is not None:
            slots, _ = generation.held.enter_context(self.bank.using([generation.adapter]))
            generation.slot = int(slots[0])
        inside = [*self._inside(group), generation]
        self.decoder.reserve(_rows(inside), inside)
        if generation.sampling.beams > 1:
            ends = generation.adapter.card.eos_token_ids
            generation.beams = Beams(generation.prompt, generation.sampling, ends, generation.most)
        if states is not None:
            self.decoder.cache.write(len(self.live), states, known)
        row = Row(generation, generation.tokens, known)
        generation.rows = [row]
        return row

    def _run(self, ids: Sequence[Sequence[int]], rows: Sequence[Row], *, first: int, encode: bool = False) -> Logits:
        """Run the newest tokens of rows that lie in the cache from `first` on; return logits (rows, vocabulary).

        If they cannot be run together, each half of them is run by itself, and so on down to those at fault: these end
        with an error, and their logits are no numbers.
        """
        try:
            if encode:
                self.decoder.encode(rows, first=first)
            return self.decoder.run(ids, rows, first=first)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            refusal = error
        if len(rows) > 1:
            half = len(rows) // 2
            before = self._run(ids[:half], rows[:half], first=first, encode=encode)
            after = self._run(ids[half:], rows[half:], first=first + half, encode=encode)
            return np.concatenate([before, after])
        _fail(rows[0].generation, refusal)
        return np.full((1, self.decoder.vocabulary), np.nan, np.float32)

    def _take(self, rows: Sequence[Row], logits: Logits) -> None:
        """Choose the next token of rows, and end those that are done."""
        likeliest = logits.argmax(-1)
        finite = np.isfinite(logits[np.arange(len(rows)), likeliest])
        places = {row: index for index, row in enumerate(rows)}
        for generation in _generations(rows):
            if generation.ended is not None:
                continue
            own = [places[row] for row in generation.rows]
            try:
                if not finite[own].all():
                    raise Failed(f"adapter {generation.adapter.card.name} gives logits that are no numbers")
                if generation.beams is not None:
                    self._search(generation, generation.beams, logits[own])
                else:
                    generation.take(logits[own[0]], int(likeliest[own[0]]))
            except Exception as error:
                _fail(generation, error)

    def _search(self, generation: Generation, beams: Beams, logits: Logits) -> None:
        """Take a step of a beam search: a beam stays in its row, and where two go on from one, the other is copied."""
        sources = beams.advance(logits)
        if beams.done:
            for token in beams.ended[0][1]:
                generation.write(token)
            return
        before = generation.rows
        cached = before[0].read + len(beams.texts[0]) - 1
        free = [row for at, row in enumerate(before) if at not in sources]
        free += [Row(generation, [], before[0].read) for _ in range(len(sources) - len(before))]
        self._join([row for row in free if row not in before])
        after: list[Row] = []
        kept: set[int] = set()
        for source in sources:
            after.append(before[source] if source not in kept else free.pop(0))
            if source in kept:
                places = self.live.index(before[source]), self.live.index(after[-1])
                self.decoder.move(*places, cached, generation)
            kept.add(source)
        for row, text in zip(after, beams.texts, strict=True):
            row.tokens = text
        generation.rows = after

    def _join(self, rows: Sequence[Row]) -> None:
        """Put rows behind those that write, and before the one that is being read."""
        count = len(self.live)
        self.live += rows
        if self.reading is not None and rows:
            self.decoder.move(count, len(self.live), self.reading.read, self.reading.generation)

    def _leave(self) -> None:
        """Take ended rows out of the cache; the last row takes the place of each."""
        count = len(self.live)
        for index in range(count - 1, -1, -1):
            ended = self.live[index].generation
            if ended.ended is None:
                continue
            if ended.error is not None:
                self.decoder.clear(index)
            last = self.live.pop()
            if index < len(self.live):
                self.decoder.move(len(self.live), index, last.length, last.generation)
                self.live[index] = last
        if self.reading is not None and len(self.live) < count:
            self.decoder.move(count, len(self.live), self.reading.read, self.reading.generation)

    def _give_up(self, error: BaseException) -> None:
        """Fail all that is in flight."""
        for generation in self._inside():
            generation.fail(error)
        self.live, self.reading = [], None
        for row in range(self.decoder.cache.rows):
            self.decoder.clear(row)

    def _inside(self, group: Sequence[Row] = ()) -> list[Generation]:
        """Return the texts that have rows, those of `group` included."""
        return _generations([*self.live, *group, *([self.reading] if self.reading else [])])


def _fail(generation: Generation, error: Exception) -> None:
    """End a text with an error; one that is none of serving's is logged, as nobody expected it."""
    if not isinstance(error, ServeError):
        logger.error("a text of adapter %s failed", generation.adapter.card.name, exc_info=error)
    generation.fail(error)


def _generations(rows: Sequence[Row]) -> list[Generation]:
    """Return the texts that rows belong to; a search has several."""
    return list(dict.fromkeys(row.generation for row in rows))


def _rows(inside: Sequence[Generation]) -> int:
    """Return the rows that texts take."""
    return sum(one.sampling.beams for one in inside)


def _room(inside: Sequence[Generation]) -> int:
    """Return the tokens of the cache that texts may come to need: every row is as long as the longest."""
    longest = max((one.length for one in inside), default=0) + max((len(one.source) for one in inside), default=0)
    return _rows(inside) * longest
