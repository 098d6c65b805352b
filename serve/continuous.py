"""Continuous batching: rows join and leave between the steps of a decoder, each with an adapter of its own.

A step reads prompts, at most `chunk` tokens of them, and then writes one token in every live row. Rows lie in the cache
one after another: those that write come first, then the one whose prompt is being read, so that a run touches only what
it works on. When a row ends, the last one takes its place.

An encoder reads a source before its row begins; what the decoder reads of it lies beside the row in a cache of its own.
A beam search has a row for each beam, and copies what a beam goes on from.
"""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapter import Adapter
from serve.bank import PREFIX, Bank
from serve.beams import Beams
from serve.bundle import Bundle, Edge
from serve.errors import BundleError, DeadlineExceeded, Failed, InputError, Overloaded
from serve.guide import Guide
from serve.key_values import TYPES, KeyValues, States
from serve.sampling import Logits, Logprobs, Sampling, choose, logprobs_of, processed
from serve.text_stream import TextStream
from serve.tokens import pad

PAST = "past_key_values."
PRESENT = "present."
MAX_LENGTH = "max_length"
SOURCE = "source"
SOURCE_MASK = "encoder_attention_mask"
SOURCE_STEP = 32
"""Tokens by which the cache of sources grows: every row attends to all of it."""
CONTEXT = ("max_position_embeddings", "n_positions")
MOST_NEW_TOKENS = 64
"""Of a request that does not say how many."""
SHORTEST_PREFIX = 32
"""Tokens that prompts must share for the cache of one to be copied for another."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The bounds of what is in flight."""

    rows: int = 16
    """That are written at a time."""
    tokens: int = 16_384
    """Of the cache: rows in flight, times what the longest of them may come to, prompt and answer."""
    queued: int = 256
    """That wait for a row."""
    chunk: int = 256
    """Tokens of prompts that are read between two tokens of the rows that write."""
    prefix_tokens: int = 1024
    """Of prompts that are kept for others that begin in the same way."""
    timeout: float = np.inf
    """Seconds that a text may wait for a row."""


@dataclass(eq=False)
class Generation:
    """One text that is being written."""

    prompt: Sequence[int]
    """What the decoder reads first: after an encoder, its start token."""
    adapter: Adapter
    sampling: Sampling
    stream: TextStream
    source: Sequence[int] = ()
    """What the encoder reads."""
    guide: Guide | None = None
    on_text: Callable[[str], None] = lambda piece: None
    """Called with each new piece of the text, in the thread that steps."""
    on_end: Callable[[], None] = lambda: None
    tokens: list[int] = field(default_factory=list)
    """Without the token that ended the text."""
    logprobs: list[Logprobs] = field(default_factory=list)
    ended: str | None = None
    """"stop" (the model or a stop text ended it), "length", "cancelled" or "failed"."""
    error: Exception | None = None
    cancelled: bool = False
    most: int = 0
    """Tokens that it may come to; set when it is submitted."""
    submitted: float = 0.0
    """When it came, in seconds of `time.monotonic`…"""
    began: float | None = None
    """…when its first token was written…"""
    finished: float | None = None
    """…and when it ended."""
    slot: int = 0
    held: ExitStack = field(default_factory=ExitStack)
    """What keeps the adapter in its slot."""
    rows: list["Row"] = field(default_factory=list)
    """Those that write it: one for each beam."""
    beams: Beams | None = None
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.Generator(np.random.Philox(self.sampling.seed))

    @property
    def text(self) -> str:
        """What was written so far."""
        return self.stream.text

    @property
    def reads(self) -> Sequence[int]:
        """The tokens that are read before the first is written."""
        return self.source or self.prompt

    @property
    def length(self) -> int:
        """Tokens of the cache that a row may come to need."""
        return len(self.prompt) + self.most


@dataclass(eq=False)
class Row:
    """A row of the cache."""

    generation: Generation
    tokens: list[int]
    """That were written in it; the newest is not yet in the cache."""
    read: int = 0
    """Tokens of the prompt that are in the cache."""

    @property
    def length(self) -> int:
        """Tokens that it has in the cache."""
        return self.read + max(0, len(self.tokens) - 1)


class Engine:
    """The rows in flight over one decoder; whoever calls it does so from one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        session: ort.InferenceSession,
        bank: Bank | None,
        pool: Pool | None = None,
        encoder: ort.InferenceSession | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.session, self.encoder, self.bank, self.pool = session, encoder, bank, pool or Pool()
        self.pad = manifest.pad_token_id
        self.context = None if encoder else context_of(bundle)
        bound = self.pool.tokens
        past = [_renamed(edge) for edge in manifest.inputs if edge.name.startswith(PAST)]
        self.cache = KeyValues([edge for edge in past if MAX_LENGTH in edge.shape], tokens=MAX_LENGTH, bound=bound)
        sources = [edge for edge in past if SOURCE in edge.shape]
        self.sources = KeyValues(sources, tokens=SOURCE, bound=bound, step=SOURCE_STEP)
        self.stacks = {"decoder": _stacks(manifest.inputs), "encoder": _stacks(manifest.encoder_inputs)}
        self.arrived: deque[Generation] = deque()
        """By any thread; taken over by the next step."""
        self.waiting: deque[Generation] = deque()
        self.live: list[Row] = []
        self.reading: Row | None = None
        """Whose prompt is longer than a chunk, or begins like one that was kept."""
        self.prefixes = Prefixes(self.pool.prefix_tokens)
        (self.logits,) = (edge for edge in manifest.outputs if edge.name == "logits")
        self.kept: dict[int, tuple[ort.IOBinding, Logits]] = {}
        """What stays bound from step to step, by the number of rows…"""
        self.memory: tuple[object, ...] = (None, None, None)
        """…while this is where the cache and the bank are."""

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
        return _room(_generations([*self.live, *([self.reading] if self.reading else [])]))

    def submit(self, generation: Generation) -> None:
        """Queue a text, from any thread; an error if it can never be written, or not now."""
        self._check(generation)
        if self.queued >= self.pool.queued:
            raise Overloaded(f"{self.queued} texts wait already: try again later")
        generation.submitted = time.monotonic()
        self.arrived.append(generation)

    def step(self) -> None:
        """Read some of the prompts, then write one token in every live row."""
        while self.arrived:
            self.waiting.append(self.arrived.popleft())
        self._drop_cancelled()
        self._drop_late()
        self._read()
        if self.live:
            logits = self._run([row.tokens[-1:] for row in self.live], self.live, first=0)
            if logits is not None:
                self._take(self.live, logits)
            self._leave()

    def _check(self, generation: Generation) -> None:
        """Raise an error if a text can never be written; otherwise settle how long it may become."""
        prompt, sampling = len(generation.reads), generation.sampling
        if not prompt:
            raise InputError("the prompt is empty")
        if sampling.beams > self.pool.rows:
            raise InputError(f"a search with {sampling.beams} beams needs as many rows; there are {self.pool.rows}")
        tokens = int(self.logits.shape[-1])
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
            _end(generation, "cancelled")
        if self.reading is not None and self.reading.generation.cancelled:
            _end(self.reading.generation, "cancelled")
            self.cache.clear(len(self.live))
            self.reading = None
        for row in self.live:
            if row.generation.cancelled:
                _end(row.generation, "cancelled")
        self._leave()

    def _drop_late(self) -> None:
        """Fail the texts that waited too long; the queue has the oldest first."""
        while self.waiting and time.monotonic() - self.waiting[0].submitted > self.pool.timeout:
            late = DeadlineExceeded(f"no row was free within {self.pool.timeout:g} s: try again later")
            _end(self.waiting.popleft(), "failed", late)

    def _read(self) -> None:
        """Read the next chunk of a prompt, or several short prompts together."""
        if self.reading is None and (group := self._admit()):
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
            elif self._run([chunk], [row], first=len(self.live)) is None:
                self.reading = None

    def _begin(self, group: Sequence[Row], ids: Sequence[Sequence[int]]) -> None:
        """Run the last of the prompts of rows, which then begin to write."""
        first = len(self.live)
        self.live += group
        logits = self._run(ids, group, first=first) if self._encode(group, first=first) else None
        if logits is not None:
            for index, row in enumerate(group, first):
                if self.encoder is None and self.prefixes.wants(row.generation):
                    self.prefixes.keep(row.generation, self.cache.read(index, row.read))
            self._take(group, logits)
        self._leave()

    def _admit(self) -> list[Row]:
        """Take from the queue, in its order, what has room and is read in one chunk; a longer prompt is read alone."""
        group: list[Row] = []
        longest = 0
        while self.waiting and self._has_room(self.waiting[0], group):
            generation = self.waiting[0]
            longest = max(longest, len(generation.reads))
            states, known = self.prefixes.find(generation)
            alone = known > 0 or len(generation.prompt) > self.pool.chunk
            full = longest * (len(group) + 1) > self.pool.chunk
            if group and (alone or full or self.prefixes.shared(generation, [row.generation for row in group])):
                break
            self.waiting.popleft()
            try:
                self._hold(generation)
                self._reserve([*_generations([*self.live, *group]), generation])
            except (BundleError, Overloaded) as error:
                _end(generation, "failed", error)
                continue
            row = Row(generation, generation.tokens)
            generation.rows = [row]
            if generation.sampling.beams > 1:
                ends = generation.adapter.card.eos_token_ids
                generation.beams = Beams(generation.prompt, generation.sampling, ends, generation.most)
            if alone:
                self.reading = row
                if states is not None:
                    self.cache.write(len(self.live), states, known)
                    row.read = known
                return []
            group.append(row)
        return group

    def _has_room(self, generation: Generation, group: Sequence[Row]) -> bool:
        inside = _generations([*self.live, *group])
        if _rows([*inside, generation]) > self.pool.rows or _room([*inside, generation]) > self.pool.tokens:
            return False
        return self.bank is None or self.bank.has_room(generation.adapter) or not inside

    def _reserve(self, inside: Sequence[Generation]) -> None:
        """Make room in the cache for all that is in flight."""
        self.cache.reserve(_rows(inside), max(one.length for one in inside))
        self.sources.reserve(_rows(inside), max(len(one.source) for one in inside))

    def _hold(self, generation: Generation) -> None:
        """Place an adapter, and keep it in its slot."""
        if self.bank is not None:
            slots, _ = generation.held.enter_context(self.bank.using([generation.adapter]))
            generation.slot = int(slots[0])

    def _encode(self, rows: Sequence[Row], *, first: int) -> bool:
        """Have the encoder read the sources of rows; return whether it could."""
        if self.encoder is None:
            return True
        ids = [row.generation.source for row in rows]
        binding = self.encoder.io_binding()
        binding.bind_cpu_input("input_ids", pad(ids, self.pad))
        binding.bind_cpu_input("attention_mask", mask_of([len(row) for row in ids]))
        self._bind_stacks(binding, "encoder")
        self._bind_slots(binding, rows)
        names = [output.name for output in self.encoder.get_outputs()]
        for name in names:
            binding.bind_output(name)
        if not self._ran(self.encoder, binding, rows):
            return False
        states = dict(zip([name.removeprefix(PRESENT) for name in names], binding.get_outputs(), strict=True))
        arrays = {name: value.numpy() for name, value in states.items()}
        for index, source in enumerate(ids):
            own = {name: array[index] for name, array in arrays.items()}
            self.sources.write(first + index, own, len(source))
        return True

    def _run(self, ids: Sequence[Sequence[int]], rows: Sequence[Row], *, first: int) -> Logits | None:
        """Run the newest tokens of rows that lie in the cache from `first` on; return logits (rows, vocabulary).

        If that fails, the rows end, and there are none.
        """
        binding, logits = self._kept(len(rows)) if first == 0 else self._bound(first, len(rows))
        binding.bind_cpu_input("input_ids", pad(ids, self.pad))
        binding.bind_cpu_input("attention_mask", mask_of([row.read + len(row.tokens) for row in rows]))
        self._bind_slots(binding, rows)
        if self.encoder is not None:
            sources = [len(row.generation.source) for row in rows]
            binding.bind_cpu_input(SOURCE_MASK, mask_of(sources, self.sources.tokens))
        return logits[:, 0] if self._ran(self.session, binding, rows) else None

    def _kept(self, count: int) -> tuple[ort.IOBinding, Logits]:
        """Return `_bound` of the first rows, which most steps run: made again only where memory has moved."""
        memory = (self.cache.buffers, self.sources.buffers, self.bank and self.bank.feeds)
        if any(one is not other for one, other in zip(self.memory, memory, strict=True)):
            self.kept, self.memory = {}, memory
        if count not in self.kept:
            self.kept[count] = self._bound(0, count)
        return self.kept[count]

    def _bound(self, first: int, count: int) -> tuple[ort.IOBinding, Logits]:
        """Bind what stays from step to step, for rows that lie in the cache from `first` on; return logits as well.

        Those are the memory (rows, 1, vocabulary) that a run writes them to.
        """
        binding = self.session.io_binding()
        logits = np.empty(
            [dim if isinstance(dim, int) else count for dim in self.logits.shape], TYPES[self.logits.dtype]
        )
        binding.bind_ortvalue_output(self.logits.name, ort.OrtValue.ortvalue_from_numpy(logits))
        self._bind_stacks(binding, "decoder")
        for name, value in self.sources.part(first, count).items():
            binding.bind_ortvalue_input(PAST + name, value)
        for name, value in self.cache.part(first, count).items():
            binding.bind_ortvalue_input(PAST + name, value)
            binding.bind_ortvalue_output(PRESENT + name, value)
        return binding, logits

    def _bind_stacks(self, binding: ort.IOBinding, graph: str) -> None:
        if self.bank is not None:
            for name in self.stacks[graph]:
                binding.bind_ortvalue_input(name, self.bank.feeds[name])

    def _bind_slots(self, binding: ort.IOBinding, rows: Sequence[Row]) -> None:
        if self.bank is not None:
            binding.bind_cpu_input("adapter_ids", np.array([row.generation.slot for row in rows], np.int64))

    def _ran(self, session: ort.InferenceSession, binding: ort.IOBinding, rows: Sequence[Row]) -> bool:
        """Run a graph; if that fails, the rows end."""
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            for row in rows:
                _end(row.generation, "failed", Failed(f"the text cannot be written: {str(error).splitlines()[0]}"))
            return False
        return True

    def _take(self, rows: Sequence[Row], logits: Logits) -> None:
        """Choose the next token of rows, and end those that are done."""
        likeliest = logits.argmax(-1)
        finite = np.isfinite(logits[np.arange(len(rows)), likeliest])
        places: dict[Generation, list[int]] = {}
        for index, row in enumerate(rows):
            places.setdefault(row.generation, []).append(index)
        for generation, indices in places.items():
            if not finite[indices].all():
                name = generation.adapter.card.name
                _end(generation, "failed", Failed(f"adapter {name} gives logits that are no numbers"))
            elif generation.beams is not None:
                place = {rows[index]: index for index in indices}
                self._search(generation, generation.beams, logits[[place[row] for row in generation.rows]])
            else:
                (index,) = indices
                _take_one(generation, logits[index], int(likeliest[index]))

    def _search(self, generation: Generation, beams: Beams, logits: Logits) -> None:
        """Take a step of a beam search: a beam stays in its row, and where two go on from one, the other is copied."""
        sources = beams.advance(logits)
        if beams.done:
            for token in beams.ended[0][1]:
                _write(generation, token)
            return
        before = generation.rows
        cached = before[0].read + len(beams.texts[0]) - 1
        free = [row for at, row in enumerate(before) if at not in sources]
        free += [Row(generation, [], before[0].read) for _ in range(len(sources) - len(before))]
        self.live += [row for row in free if row not in before]
        after: list[Row] = []
        kept: set[int] = set()
        for source in sources:
            after.append(before[source] if source not in kept else free.pop(0))
            if source in kept:
                places = self.live.index(before[source]), self.live.index(after[-1])
                self._move(*places, cached, generation)
            kept.add(source)
        for row, text in zip(after, beams.texts, strict=True):
            row.tokens = text
        generation.rows = after

    def _move(self, source: int, target: int, tokens: int, generation: Generation) -> None:
        self.cache.move(source, target, tokens)
        self.sources.move(source, target, len(generation.source))

    def _leave(self) -> None:
        """Take ended rows out of the cache; the last row takes the place of each."""
        count = len(self.live)
        for index in range(count - 1, -1, -1):
            ended = self.live[index].generation
            if ended.ended is None:
                continue
            if ended.error is not None:  # what it left may be no numbers, which no mask hides
                self.cache.clear(index)
                self.sources.clear(index)
            last = self.live.pop()
            if index < len(self.live):
                self._move(len(self.live), index, last.length, last.generation)
                self.live[index] = last
        if self.reading is not None and len(self.live) < count:
            self._move(count, len(self.live), self.reading.read, self.reading.generation)


class Prefixes:
    """The cache of prompts that were read, for others that begin in the same way; the one used last stays longest."""

    def __init__(self, tokens: int) -> None:
        self.room = tokens
        self.kept: OrderedDict[tuple[str, tuple[int, ...]], States] = OrderedDict()

    def find(self, generation: Generation) -> tuple[States | None, int]:
        """Return states that a prompt begins with, and how many of its tokens they are: all but the last at most."""
        best, key = 0, None
        for sha256, tokens in self.kept:
            if sha256 == generation.adapter.card.sha256 and (same := _same(tokens, generation.prompt)) > best:
                best, key = same, (sha256, tokens)
        best = min(best, len(generation.prompt) - 1)
        if key is None or best < SHORTEST_PREFIX:
            return None, 0
        self.kept.move_to_end(key)
        return self.kept[key], best

    def shared(self, generation: Generation, others: Sequence[Generation]) -> bool:
        """Return whether a prompt had better wait until another, with the same beginning, is read."""
        return any(
            other.adapter.card.sha256 == generation.adapter.card.sha256
            and min(_same(other.prompt, generation.prompt), len(generation.prompt) - 1) >= SHORTEST_PREFIX
            for other in others
        )

    def wants(self, generation: Generation) -> bool:
        """Return whether a prompt that was read is to be kept: not if most of it is there already."""
        size, sha256 = len(generation.prompt), generation.adapter.card.sha256
        known = max((_same(tokens, generation.prompt) for other, tokens in self.kept if other == sha256), default=0)
        return SHORTEST_PREFIX <= size <= self.room and known <= size - SHORTEST_PREFIX

    def keep(self, generation: Generation, states: States) -> None:
        """Keep the states of a prompt that was read."""
        self.kept[generation.adapter.card.sha256, tuple(generation.prompt)] = states
        while sum(len(tokens) for _, tokens in self.kept) > self.room:
            self.kept.popitem(last=False)


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


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two prompts share at their beginning."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        count += 1
    return count


def mask_of(lengths: Sequence[int] | NDArray[np.int64], total: int | None = None) -> NDArray[np.int64]:
    """Return 1 for each row's tokens and 0 for the padding on its right: (rows, longest or `total`)."""
    return (np.arange(max(lengths) if total is None else total) < np.array(lengths)[:, None]).astype(np.int64)


def _take_one(generation: Generation, logits: Logits, likeliest: int) -> None:
    """Choose the next token of a text from its logits (vocabulary,)."""
    sampling, token = generation.sampling, likeliest
    if not sampling.plain:
        try:
            allowed = generation.guide.allowed() if generation.guide else None
        except InputError as error:
            _end(generation, "failed", error)
            return
        scores = processed(logits, generation.prompt, generation.tokens, sampling, allowed)
        if not np.isfinite(scores.max()):
            _end(generation, "failed", InputError("what the request excludes leaves no token that may come next"))
            return
        token = choose(scores, sampling, generation.random)
        if generation.guide:
            generation.guide.take(token)
    if sampling.logprobs is not None:
        generation.logprobs.append(logprobs_of(logits, token, sampling.logprobs))
    _write(generation, token)


def _write(generation: Generation, token: int) -> None:
    """Add a token to a text and see whether it ends it."""
    generation.began = generation.began or time.monotonic()
    if token in generation.adapter.card.eos_token_ids:
        _end(generation, "stop")
        return
    generation.tokens.append(token)
    if piece := generation.stream.push(token):
        generation.on_text(piece)
    if generation.stream.stopped:
        _end(generation, "stop")
    elif len(generation.tokens) == generation.most:
        _end(generation, "length")


def _end(generation: Generation, reason: str, error: Exception | None = None) -> None:
    if generation.ended is not None:
        return
    if piece := generation.stream.end():
        generation.on_text(piece)
    generation.finished = time.monotonic()
    generation.ended, generation.error = reason, error
    generation.held.close()
    generation.on_end()


def _stacks(edges: Sequence[Edge]) -> list[str]:
    """Return the inputs that are a bank's stacks."""
    return [edge.name for edge in edges if edge.name.startswith(PREFIX)]


def context_of(bundle: Bundle) -> int | None:
    """Return how many tokens a model was made for, if its configuration says so."""
    config = json.loads((bundle.folder / "config.json").read_text("utf-8"))
    return next((int(config[name]) for name in CONTEXT if config.get(name)), None)


def _renamed(edge: Edge) -> Edge:
    return Edge(name=edge.name.removeprefix(PAST), dtype=edge.dtype, shape=edge.shape)
