"""The graphs of a generation bundle, run over rows of a KV cache that they write into."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort

from serve.bundle.graph_io import (
    ADAPTER_IDS,
    ATTENTION_MASK,
    BANK,
    ENCODER_ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    MAX_LENGTH,
    PAST,
    PRESENT,
    SOURCE,
)
from serve.bundle.manifest import Edge
from serve.generation.cache.kv_cache import KVCache
from serve.generation.sampling.logits import Logits
from serve.loaded_model import LoadedModel
from serve.runtime.buffers import TYPES
from serve.runtime.padding import mask_of, pad

SOURCE_STEP = 32
"""Tokens by which the cache of encoder states grows; every row attends to all of it."""
NO_MEMORY = (None, None, None)


class RunnerRow(Protocol):
    """A row of the KV cache, as a run sees it."""

    @property
    def total_tokens(self) -> int:
        """Tokens that are in the cache after the run."""

    @property
    def source(self) -> Sequence[int]:
        """Tokens of the encoder's input; empty for a decoder alone."""

    @property
    def slot(self) -> int:
        """Slot of the adapter in the bank."""


class ModelRunner:
    """A decoder with its KV cache and, behind an encoder, a second cache of the encoder's keys and values."""

    def __init__(self, model: LoadedModel, *, max_tokens: int) -> None:
        """Create empty caches, each of at most `max_tokens` tokens: rows × longest row."""
        manifest = model.bundle.manifest
        self.session, self.encoder, self.bank = model.session, model.encoder, model.bank
        self.pad_token_id = manifest.pad_token_id
        past = [_without_prefix(edge) for edge in manifest.inputs if edge.name.startswith(PAST)]
        own, cross = ([edge for edge in past if symbol in edge.shape] for symbol in (MAX_LENGTH, SOURCE))
        self.cache = KVCache(own, token_symbol=MAX_LENGTH, max_tokens=max_tokens, device=model.device)
        """Keys and values of self-attention, which a run writes."""
        self.source_cache = KVCache(
            cross, token_symbol=SOURCE, max_tokens=max_tokens, step=SOURCE_STEP, is_written=False, device=model.device
        )
        """Keys and values of cross-attention, which the encoder computes once."""
        self.stacks = {"decoder": _stacks(manifest.inputs), "encoder": _stacks(manifest.encoder_inputs)}
        (self.logits,) = (edge for edge in manifest.outputs if edge.name == LOGITS)
        self.bindings: dict[int, tuple[ort.IOBinding, Logits]] = {}
        """Bindings of the first rows by their number, reused from step to step…"""
        self.memory: tuple[object, ...] = NO_MEMORY
        """…while the caches and the bank lie in this memory."""

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.logits.shape[-1])

    def reserve(self, rows: int, *, tokens: int, source_tokens: int) -> None:
        """Make room for `rows` rows, each of up to so many tokens and tokens of the encoder's input.

        Raises:
            Overloaded: Memory is short.
        """
        if not (self.cache.fits(rows, tokens) and self.source_cache.fits(rows, source_tokens)):
            self.bindings, self.memory = {}, NO_MEMORY  # they hold the memory that is given back
        self.cache.reserve(rows, tokens)
        self.source_cache.reserve(rows, source_tokens)

    def move(self, source: int, target: int, *, tokens: int, source_tokens: int) -> None:
        """Copy the first tokens of a row to another row, in both caches."""
        self.cache.move(source, target, tokens)
        self.source_cache.move(source, target, source_tokens)

    def clear(self, row: int) -> None:
        """Fill a row with zeros: its states may be infinite or NaN, which no mask hides."""
        self.cache.clear(row)
        self.source_cache.clear(row)

    def run(self, ids: Sequence[Sequence[int]], rows: Sequence[RunnerRow], *, first: int) -> Logits:
        """Run the new tokens of rows that lie side by side in the cache.

        Args:
            ids: New tokens of each row.
            rows: The rows.
            first: Index of the first row in the cache.

        Returns:
            Logits after each row's last token, (rows, vocabulary), valid until the next run.
        """
        binding, logits = self._reused_binding(len(rows)) if first == 0 else self._binding(first, len(rows))
        binding.bind_cpu_input(INPUT_IDS, pad(ids, self.pad_token_id))
        binding.bind_cpu_input(ATTENTION_MASK, mask_of([row.total_tokens for row in rows]))
        self._bind_slots(binding, rows)
        if self.encoder is not None:
            lengths = [len(row.source) for row in rows]
            binding.bind_cpu_input(ENCODER_ATTENTION_MASK, mask_of(lengths, self.source_cache.tokens))
        self.session.run_with_iobinding(binding)
        return logits[:, 0]

    def encode(self, rows: Sequence[RunnerRow], *, first: int) -> None:
        """Run the encoder, if there is one, over the inputs of rows that lie in the cache from row `first` on."""
        if self.encoder is None:
            return
        ids = [row.source for row in rows]
        binding = self.encoder.io_binding()
        binding.bind_cpu_input(INPUT_IDS, pad(ids, self.pad_token_id))
        binding.bind_cpu_input(ATTENTION_MASK, mask_of([len(row) for row in ids]))
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
            self.source_cache.write(first + index, own, len(source))

    def _reused_binding(self, count: int) -> tuple[ort.IOBinding, Logits]:
        """Return the binding of the first `count` rows, which most steps run; it is rebuilt when memory has moved."""
        memory = (self.cache.buffers, self.source_cache.buffers, self.bank and self.bank.feeds)
        if any(one is not other for one, other in zip(self.memory, memory, strict=True)):
            self.bindings, self.memory = {}, memory
        if count not in self.bindings:
            self.bindings[count] = self._binding(0, count)
        return self.bindings[count]

    def _binding(self, first: int, count: int) -> tuple[ort.IOBinding, Logits]:
        """Return a binding of all that stays from step to step, and the memory of its logits, (rows, 1, vocabulary)."""
        binding = self.session.io_binding()
        shape = [dim if isinstance(dim, int) else count for dim in self.logits.shape]
        logits = np.empty(shape, TYPES[self.logits.dtype])
        binding.bind_ortvalue_output(self.logits.name, ort.OrtValue.ortvalue_from_numpy(logits))
        self._bind_stacks(binding, "decoder")
        self.source_cache.bind(binding, first, count)
        self.cache.bind(binding, first, count)
        return binding, logits

    def _bind_stacks(self, binding: ort.IOBinding, graph: str) -> None:
        if self.bank is not None:
            for name in self.stacks[graph]:
                binding.bind_ortvalue_input(name, self.bank.feeds[name])

    def _bind_slots(self, binding: ort.IOBinding, rows: Sequence[RunnerRow]) -> None:
        if self.bank is not None:
            binding.bind_cpu_input(ADAPTER_IDS, np.array([row.slot for row in rows], np.int64))


def _stacks(edges: Sequence[Edge]) -> list[str]:
    """Return the names of a bank's stacks."""
    return [edge.name for edge in edges if edge.name.startswith(BANK)]


def _without_prefix(edge: Edge) -> Edge:
    return Edge(name=edge.name.removeprefix(PAST), dtype=edge.dtype, shape=edge.shape)
