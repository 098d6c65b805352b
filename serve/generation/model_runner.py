"""The graphs of a bundle that writes, run over rows of a cache that they write into."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from serve.adapters.bank import PREFIX, Bank
from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle
from serve.generation.cache.kv_cache import PAST, PRESENT, KeyValues
from serve.generation.request import Generation, Row
from serve.generation.sampling.logits import Logits
from serve.runtime.buffers import HOST, TYPES
from serve.runtime.padding import mask_of, pad

MAX_LENGTH = "max_length"
SOURCE = "source"
SOURCE_MASK = "encoder_attention_mask"
SOURCE_STEP = 32
"""Tokens by which the cache of sources grows: every row attends to all of it."""
NOWHERE = (None, None, None)


class Decoder:
    """A decoder over its cache and, after an encoder, over what the encoder made of the sources beside it."""

    def __init__(
        self,
        bundle: Bundle,
        session: ort.InferenceSession,
        bank: Bank | None,
        encoder: ort.InferenceSession | None,
        *,
        tokens: int,
        device: str = HOST,
    ) -> None:
        """Make a cache without rows; `tokens` bounds each of the two."""
        manifest = bundle.manifest
        self.session, self.encoder, self.bank, self.pad = session, encoder, bank, manifest.pad_token_id
        past = [_renamed(edge) for edge in manifest.inputs if edge.name.startswith(PAST)]
        grown, sources = ([edge for edge in past if symbol in edge.shape] for symbol in (MAX_LENGTH, SOURCE))
        self.cache = KeyValues(grown, tokens=MAX_LENGTH, bound=tokens, device=device)
        self.sources = KeyValues(sources, tokens=SOURCE, bound=tokens, step=SOURCE_STEP, written=False, device=device)
        self.stacks = {"decoder": _stacks(manifest.inputs), "encoder": _stacks(manifest.encoder_inputs)}
        (self.logits,) = (edge for edge in manifest.outputs if edge.name == "logits")
        self.kept: dict[int, tuple[ort.IOBinding, Logits]] = {}
        """What stays bound from step to step, by the number of rows…"""
        self.memory: tuple[object, ...] = NOWHERE
        """…while this is where the cache and the bank are."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are logits for."""
        return int(self.logits.shape[-1])

    def reserve(self, rows: int, inside: Sequence[Generation]) -> None:
        """Make room for so many rows, of which each may come to be as long as the longest text."""
        longest, source = max(one.length for one in inside), max(len(one.source) for one in inside)
        if not (self.cache.fits(rows, longest) and self.sources.fits(rows, source)):
            self.kept, self.memory = {}, NOWHERE  # they hold the memory that is given back
        self.cache.reserve(rows, longest)
        self.sources.reserve(rows, source)

    def move(self, source: int, target: int, tokens: int, generation: Generation) -> None:
        """Copy the first tokens of a row to another, and its source."""
        self.cache.move(source, target, tokens)
        self.sources.move(source, target, len(generation.source))

    def clear(self, row: int) -> None:
        """Forget a row whose states may be no numbers, which no mask hides."""
        self.cache.clear(row)
        self.sources.clear(row)

    def run(self, ids: Sequence[Sequence[int]], rows: Sequence[Row], *, first: int) -> Logits:
        """Run the newest tokens of rows that lie in the cache from `first` on; return logits (rows, vocabulary)."""
        binding, logits = self._kept(len(rows)) if first == 0 else self._bound(first, len(rows))
        binding.bind_cpu_input("input_ids", pad(ids, self.pad))
        binding.bind_cpu_input("attention_mask", mask_of([row.read + len(row.tokens) for row in rows]))
        self._bind_slots(binding, rows)
        if self.encoder is not None:
            sources = [len(row.generation.source) for row in rows]
            binding.bind_cpu_input(SOURCE_MASK, mask_of(sources, self.sources.tokens))
        self.session.run_with_iobinding(binding)
        return logits[:, 0]

    def encode(self, rows: Sequence[Row], *, first: int) -> None:
        """Have the encoder, if there is one, read the sources of rows that lie in the cache from `first` on."""
        if self.encoder is None:
            return
        ids = [row.generation.source for row in rows]
        binding = self.encoder.io_binding()
        binding.bind_cpu_input("input_ids", pad(ids, self.pad))
        binding.bind_cpu_input("attention_mask", mask_of([len(row) for row in ids]))
        self._bind_stacks(binding, "encoder")
        self._bind_slots(binding, rows)
        names = [output.name for output in self.encoder.get_outputs()]
        for name in names:
            binding.bind_output(name)
        self.encoder.run_with_iobinding(binding)
        states = {
            name.removeprefix(PRESENT): value.numpy() for name, value in zip(names, binding.get_outputs(), strict=True)
        }
        for index, source in enumerate(ids):
            own = {name: array[index] for name, array in states.items()}
            self.sources.write(first + index, own, len(source))

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
        shape = [dim if isinstance(dim, int) else count for dim in self.logits.shape]
        logits = np.empty(shape, TYPES[self.logits.dtype])
        binding.bind_ortvalue_output(self.logits.name, ort.OrtValue.ortvalue_from_numpy(logits))
        self._bind_stacks(binding, "decoder")
        self.sources.bind(binding, first, count)
        self.cache.bind(binding, first, count)
        return binding, logits

    def _bind_stacks(self, binding: ort.IOBinding, graph: str) -> None:
        if self.bank is not None:
            for name in self.stacks[graph]:
                binding.bind_ortvalue_input(name, self.bank.feeds[name])

    def _bind_slots(self, binding: ort.IOBinding, rows: Sequence[Row]) -> None:
        if self.bank is not None:
            binding.bind_cpu_input("adapter_ids", np.array([row.generation.slot for row in rows], np.int64))


def _stacks(edges: Sequence[Edge]) -> list[str]:
    """Return the inputs that are a bank's stacks."""
    return [edge.name for edge in edges if edge.name.startswith(PREFIX)]


def _renamed(edge: Edge) -> Edge:
    return Edge(name=edge.name.removeprefix(PAST), dtype=edge.dtype, shape=edge.shape)
