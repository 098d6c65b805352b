"""Outputs of a step, and what is read of them: the likeliest tokens of all rows, and the logits of some.

On a device the graph itself finds the likeliest tokens and the largest logits, if it has the outputs for it. A request
that samples, penalizes or reports logits reads the largest of its row, and the whole row only where these do not
decide.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.bundle.graph_io import (
    BATCH,
    CANDIDATE_LOGITS,
    CANDIDATE_TOKENS,
    LOG_SUM_EXP,
    LOGITS,
    NEXT_LOGITS,
    NEXT_TOKENS,
    POSITIONS,
)
from serve.bundle.manifest import Edge
from serve.generation.sampling.batch_draw import CandidateTable
from serve.generation.sampling.choice import KnownRow, WholeRow
from serve.generation.sampling.logits import Logits
from serve.runtime.buffers import TYPES
from serve.runtime.device_memory import CUDA_DEVICE, HOST, Blocks, allocate, memory_of

LIKELIEST, CANDIDATES = (NEXT_TOKENS, NEXT_LOGITS), (CANDIDATE_TOKENS, CANDIDATE_LOGITS, LOG_SUM_EXP)
READ = (LOGITS, *LIKELIEST, *CANDIDATES)
"""Outputs that are bound, of those that a graph has."""
OUTPUT_TYPES = {**TYPES, "tensor(int64)": np.dtype(np.int64)}


@dataclass(frozen=True)
class StepLogits:
    """Logits after the newest token of each row; valid until the next run."""

    likeliest: NDArray[np.int64]
    """Index of the largest logit of each row: (rows,)."""
    is_finite: NDArray[np.bool_]
    """The largest logit of a row is a finite number: (rows,)."""
    read: Callable[[Sequence[int]], Logits]
    """Returns a copy of the logits of some rows, (given rows, vocabulary)."""
    candidates: Callable[[], CandidateTable] | None = None
    """Returns the largest logits of each row; None where all are as near, or the graph does not give them."""

    def __len__(self) -> int:
        return len(self.likeliest)

    @cached_property
    def all_finite(self) -> bool:
        """The largest logits of all rows are finite numbers."""
        return bool(self.is_finite.all())

    def all(self) -> Logits:
        """Return the logits of all rows: (rows, vocabulary)."""
        return self.read(range(len(self)))

    def known(self, row: int) -> Iterator[KnownRow]:
        """Yield what there is of a row's logits: its candidates, and then the whole row."""
        if self.candidates is not None:
            yield self.candidates().row(row)
        yield WholeRow(self.read([row])[0])


def step_logits(logits: Logits) -> StepLogits:
    """Return what a step has found from logits (rows, vocabulary) in host memory."""
    likeliest = logits.argmax(-1)
    is_finite = np.isfinite(logits[np.arange(len(logits)), likeliest])
    return StepLogits(likeliest, is_finite, lambda rows: logits[list(rows)])


class StepOutputs(Protocol):
    """Memory of the outputs of a step."""

    def __init__(self, edges: Sequence[Edge], rows: int, device: str, *, positions: int = 1) -> None:
        """Allocate the outputs of so many rows; `edges` are those of the graph.

        One row may have logits at several positions; they are then what the outputs call rows.
        """

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the outputs."""

    def logits(self, count: int) -> StepLogits:
        """Return what the last run gave for the first `count` rows."""


class HostOutputs:
    """Logits in host memory."""

    def __init__(self, edges: Sequence[Edge], rows: int, device: str = HOST, *, positions: int = 1) -> None:
        (edge,) = (edge for edge in edges if edge.name == LOGITS)
        self.array = np.empty(_shape(edge, rows, positions), TYPES[edge.dtype])

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the logits."""
        binding.bind_ortvalue_output(LOGITS, ort.OrtValue.ortvalue_from_numpy(self.array))

    def logits(self, count: int) -> StepLogits:
        """Return the logits of the first `count` rows."""
        return step_logits(self.array[:count].reshape(-1, self.array.shape[-1]))


class DeviceOutputs:
    """Outputs in a device's memory, of which only what is needed is copied to the host."""

    def __init__(self, edges: Sequence[Edge], rows: int, device: str, *, positions: int = 1) -> None:
        assert positions == 1, "no row on a device is asked for more"
        self.device, self.memory = device, memory_of(device)
        self.edges = {edge.name: edge for edge in edges if edge.name in READ}
        self.values = {
            name: allocate(_shape(edge, rows), OUTPUT_TYPES[edge.dtype], device) for name, edge in self.edges.items()
        }

    def bind(self, binding: ort.IOBinding) -> None:
        """Bind the outputs that the graph has."""
        for name, value in self.values.items():
            binding.bind_ortvalue_output(name, value)

    def logits(self, count: int) -> StepLogits:
        """Return the likeliest tokens of the first `count` rows, and their logits as far as they are read."""
        if not self._gives(LIKELIEST):
            return step_logits(self._read(LOGITS, range(count))[:, 0])
        tokens, largest = (self._read(name, range(count))[:, 0] for name in LIKELIEST)
        candidates = self._candidates(count) if self._gives(CANDIDATES) else None
        return StepLogits(tokens, np.isfinite(largest), lambda rows: self._read(LOGITS, rows)[:, 0], candidates)

    def _gives(self, names: Sequence[str]) -> bool:
        return all(name in self.values for name in names)

    def _candidates(self, count: int) -> Callable[[], CandidateTable]:
        """Return the candidates of the first rows, which are copied when they are asked for first."""

        @cache
        def read() -> CandidateTable:
            tokens, logits, log_sum_exp = (self._read(name, range(count))[:, 0] for name in CANDIDATES)
            return CandidateTable(tokens, logits, log_sum_exp, self._vocabulary - tokens.shape[-1])

        return read

    @property
    def _vocabulary(self) -> int:
        return int(self.edges[LOGITS].shape[-1])

    def _read(self, name: str, rows: Sequence[int]) -> NDArray[Any]:
        """Return some rows of an output: (given rows, …)."""
        edge = self.edges[name]
        found = np.empty(_shape(edge, len(rows)), OUTPUT_TYPES[edge.dtype])
        address, size = int(self.values[name].data_ptr()), prod(found.shape[1:]) * found.itemsize
        if isinstance(rows, range):
            rows, size = rows[:1], size * len(rows)  # one behind another: a single copy
        for index, row in enumerate(rows):
            self.memory.copy(Blocks(found[index:].ctypes.data), Blocks(address + row * size), size=size)
        self.memory.synchronize()
        return found


OUTPUTS: dict[str, type[StepOutputs]] = {HOST: HostOutputs, CUDA_DEVICE: DeviceOutputs}
"""Outputs by kind of device."""


def _shape(edge: Edge, rows: int, positions: int = 1) -> tuple[int, ...]:
    sizes = {BATCH: rows, POSITIONS: positions}
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape)
