"""The graphs of a generation bundle, run over rows of a KV cache that they write into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.adapters.bank import BASE_SLOT
from serve.bundle.config import context_length
from serve.bundle.graph_io import (
    ADAPTER_IDS,
    ATTENTION_MASK,
    BANK,
    ENCODER_ATTENTION_MASK,
    INPUT_IDS,
    LOGIT_OFFSETS,
    LOGITS,
    MAX_LENGTH,
    PAST,
    PRESENT,
    SOURCE,
)
from serve.bundle.manifest import Edge
from serve.generation.cache.kv_cache import KVCache
from serve.generation.step_outputs import OUTPUTS, StepLogits, StepOutputs
from serve.loaded_model import LoadedModel
from serve.runtime.buffers import to_numpy
from serve.runtime.cuda_graphs import CapturedRuns, captured_size
from serve.runtime.device_memory import HOST
from serve.runtime.padding import mask_of, pad
from serve.runtime.run_inputs import INPUTS, RunInputs

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
        self.session, self.encoder, self.bank, self.device = model.session, model.encoder, model.bank, model.device
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
        self.outputs = manifest.outputs
        self.can_offset = any(edge.name == LOGIT_OFFSETS for edge in manifest.optional_inputs)
        self.context_length = None if model.encoder else context_length(model.bundle)
        """Longest row in tokens; None if the model does not bound it."""
        self.captures, self.captured = model.captures, CapturedRuns(model.capture_numbers)
        self.bindings: dict[tuple[int, int], _BoundRun] = {}
        """Bindings of the first rows by their number and that of the logits of each, reused from step to step…"""
        self.memory: tuple[object, ...] = NO_MEMORY
        """…while the caches and the bank lie in this memory."""

    @property
    def looks_up(self) -> bool:
        """A run over one row can give the logits after several of its tokens."""
        return self.can_offset and self.device == HOST and self.encoder is None

    @property
    def mask_tokens(self) -> int:
        """Width of a captured run's mask: what the cache has room for, as far as the model has positions for it."""
        return min(self.cache.tokens, self.context_length or self.cache.tokens)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        (logits,) = (edge for edge in self.outputs if edge.name == LOGITS)
        return int(logits.shape[-1])

    def reserve(self, rows: int, *, tokens: int, source_tokens: int) -> None:
        """Make room for `rows` rows, each of up to so many tokens and tokens of the encoder's input.

        Raises:
            Overloaded: Memory is short.
        """
        size = captured_size(rows) if self.captures else None
        if size is not None and size * max(tokens, source_tokens) <= self.cache.max_tokens:
            rows = size
        if not (self.cache.fits(rows, tokens) and self.source_cache.fits(rows, source_tokens)):
            self.bindings, self.memory = {}, NO_MEMORY  # they hold the memory that is given back
        self.cache.reserve(rows, tokens)
        self.source_cache.reserve(rows, source_tokens)

    def limit(self, max_tokens: int) -> None:
        """Bound the caches: rows × longest row."""
        self.cache.max_tokens = self.source_cache.max_tokens = max_tokens

    def shrink(self, rows: int, *, tokens: int) -> None:
        """Keep room for `rows` rows of up to so many tokens alone."""
        self.bindings, self.memory = {}, NO_MEMORY
        self.cache.shrink(rows, tokens)

    @property
    def held_tokens(self) -> int:
        """Tokens that the cache has room for: rows × longest row."""
        return self.cache.rows * self.cache.tokens

    def move(self, source: int, target: int, *, tokens: int, source_tokens: int) -> None:
        """Copy the first tokens of a row to another row, in both caches."""
        self.cache.move(source, target, tokens)
        self.source_cache.move(source, target, source_tokens)

    def clear(self, row: int) -> None:
        """Fill a row with zeros: its states may be infinite or NaN, which no mask hides."""
        self.cache.clear(row)
        self.source_cache.clear(row)

    def run(
        self,
        ids: Sequence[Sequence[int]],
        rows: Sequence[RunnerRow],
        *,
        first: int,
        behind: Sequence[RunnerRow] | None = None,
        positions: int = 1,
    ) -> StepLogits:
        """Run the new tokens of rows that lie side by side in the cache.

        Args:
            ids: New tokens of each row.
            rows: The rows.
            first: Index of the first row in the cache.
            behind: Rows in use that lie behind them, each with room for another token; None if that is not known, and
                then the run is not captured.
            positions: Last tokens of a single row after which there are logits; more than one where `looks_up` is True.

        Returns:
            Logits after each row's last token, or after the last ones of a single row, valid until the next run.
        """
        size = self._captured_size(ids) if first == 0 and behind is not None else None
        if size is not None and behind is not None:
            run = self._reused(size)
            spare = [_Spare(row.total_tokens + 1) for row in behind] + [_Spare(1)] * size
            filled = [*rows, *spare][:size]
            tokens = [*ids, *[[self.pad_token_id]] * (size - len(ids))]
            self._run(run, tokens, filled, total=self.mask_tokens, options=self.captured.options_for(size))
        else:
            count = len(rows)
            run = self._reused(count, positions) if first == 0 else self._bound(first, count, positions)
            self._run(run, ids, rows, total=None, options=self.captured.eager)
        return run.outputs.logits(len(rows))

    def encode(self, rows: Sequence[RunnerRow], *, first: int) -> None:
        """Run the encoder, if there is one, over the inputs of rows that lie in the cache from row `first` on."""
        if self.encoder is None:
            return
        ids = [row.source for row in rows]
        binding, inputs = self.encoder.io_binding(), INPUTS[self.device](self.device)
        mask = mask_of([len(row) for row in ids])
        inputs.bind(binding, {INPUT_IDS: pad(ids, self.pad_token_id), ATTENTION_MASK: mask, **self._slots(rows)})
        self._bind_stacks(binding, "encoder")
        names = [output.name for output in self.encoder.get_outputs()]
        for name in names:
            binding.bind_output(name)
        self.encoder.run_with_iobinding(binding, self.captured.eager)
        states = {
            name.removeprefix(PRESENT): to_numpy(value)
            for name, value in zip(names, binding.get_outputs(), strict=True)
        }
        for index, source in enumerate(ids):
            own = {name: array[index] for name, array in states.items()}
            self.source_cache.write(first + index, own, len(source))

    def _captured_size(self, ids: Sequence[Sequence[int]]) -> int | None:
        """Return the batch size whose captured run decodes a token of every row, or None if there is none."""
        if not self.captures or any(len(row) != 1 for row in ids):
            return None
        size = captured_size(len(ids))
        return size if size is not None and size <= self.cache.rows else None

    def _run(
        self,
        run: "_BoundRun",
        ids: Sequence[Sequence[int]],
        rows: Sequence[RunnerRow],
        *,
        total: int | None,
        options: ort.RunOptions,
    ) -> None:
        """Bind the inputs that change, and run; the mask has `total` columns, or as many as the longest row needs."""
        arrays = {
            INPUT_IDS: pad(ids, self.pad_token_id),
            ATTENTION_MASK: mask_of([row.total_tokens for row in rows], total),
            **self._slots(rows),
        }
        if self.encoder is not None:
            lengths = [len(row.source) for row in rows]
            arrays[ENCODER_ATTENTION_MASK] = mask_of(lengths, self.source_cache.tokens)
        run.inputs.bind(run.binding, arrays)
        self.session.run_with_iobinding(run.binding, options)

    def _reused(self, count: int, positions: int = 1) -> "_BoundRun":
        """Return the binding of the first `count` rows, which most steps run; it is rebuilt when memory has moved."""
        memory = (self.cache.buffers, self.source_cache.buffers, self.bank and self.bank.feeds)
        if any(one is not other for one, other in zip(self.memory, memory, strict=True)):
            self.bindings, self.memory = {}, memory
            self.captured.forget()
        if (count, positions) not in self.bindings:
            self.bindings[count, positions] = self._bound(0, count, positions)
        return self.bindings[count, positions]

    def _bound(self, first: int, count: int, positions: int) -> "_BoundRun":
        """Return a binding of all that stays from step to step, with memory for the rest."""
        binding = self.session.io_binding()
        outputs = OUTPUTS[self.device](self.outputs, count, self.device, positions=positions)
        outputs.bind(binding)
        offsets = np.arange(positions)[::-1].copy()
        if positions > 1:
            binding.bind_ortvalue_input(LOGIT_OFFSETS, ort.OrtValue.ortvalue_from_numpy(offsets))
        self._bind_stacks(binding, "decoder")
        self.source_cache.bind(binding, first, count)
        self.cache.bind(binding, first, count)
        return _BoundRun(binding, INPUTS[self.device](self.device), outputs, offsets)

    def _bind_stacks(self, binding: ort.IOBinding, graph: str) -> None:
        if self.bank is not None:
            for name in self.stacks[graph]:
                binding.bind_ortvalue_input(name, self.bank.feeds[name])

    def _slots(self, rows: Sequence[RunnerRow]) -> dict[str, NDArray[np.int64]]:
        """Return the slots of the rows' adapters as an input; a graph without a bank has none."""
        return {ADAPTER_IDS: np.array([row.slot for row in rows], np.int64)} if self.bank is not None else {}


@dataclass(frozen=True)
class _BoundRun:
    """A binding, and the memory of the inputs and outputs that it does not share with others."""

    binding: ort.IOBinding
    inputs: RunInputs
    outputs: StepOutputs
    offsets: NDArray[np.int64]
    """Offsets of the logits, which the binding reads where they lie."""


@dataclass(frozen=True)
class _Spare:
    """A row that only makes a captured batch full: its new token is never read, and is overwritten by a real one."""

    total_tokens: int
    source: Sequence[int] = (0,)
    slot: int = BASE_SLOT


def _stacks(edges: Sequence[Edge]) -> list[str]:
    """Return the names of a bank's stacks."""
    return [edge.name for edge in edges if edge.name.startswith(BANK)]


def _without_prefix(edge: Edge) -> Edge:
    return Edge(name=edge.name.removeprefix(PAST), dtype=edge.dtype, shape=edge.shape)
