"""The cache of a decoder's rows: one buffer a layer and side, grown in steps to a bound, whose first rows are in use.

A buffer is (rows, heads, tokens, head width), or whatever an edge's shape says, with the rows first. The operator
writes new entries into it in place: a run over some rows is given that part of the memory, and nothing is copied.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from serve.bundle import Edge
from serve.errors import Overloaded

ROWS = "batch"
STEP = 128
"""Tokens by which the buffers grow."""
TYPES: dict[str, DTypeLike] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
States = dict[str, NDArray[np.generic]]


class KeyValues:
    """Buffers by the names of their edges, for as many rows and tokens as were needed so far, within a bound."""

    def __init__(self, edges: Sequence[Edge], *, tokens: str, bound: int, step: int = STEP) -> None:
        """Make buffers without room; `tokens` is the symbol of the dimension that grows, in steps of `step`.

        Rows times tokens come to `bound` at most.
        """
        self.edges = {edge.name: edge for edge in edges}
        self.axes = {name: edge.shape.index(tokens) for name, edge in self.edges.items()}
        self.symbol, self.bound, self.step = tokens, bound, step
        self.rows = self.tokens = 0
        self.buffers: States = {}
        self._make(0, 0)

    def reserve(self, rows: int, tokens: int) -> None:
        """Make room for all rows in use, so many, of so many tokens; what is there stays.

        Room that was needed before is kept if the bound allows it. Without memory the buffers stay as they are.
        """
        if rows <= self.rows and tokens <= self.tokens:
            return
        steps = -(-tokens // self.step) * self.step
        if max(rows, self.rows) * max(steps, self.tokens) <= self.bound:
            self._make(max(rows, self.rows), max(steps, self.tokens))
        else:
            self._make(rows, max(tokens, min(steps, self.bound // rows)))

    def part(self, first: int, count: int) -> dict[str, ort.OrtValue]:
        """Return the memory of `count` rows from `first` on, as inputs and outputs of a run."""
        return {
            name: ort.OrtValue.ortvalue_from_numpy(buffer[first : first + count])
            for name, buffer in self.buffers.items()
        }

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row to another."""
        for name, buffer in self.buffers.items():
            cut = (slice(None),) * (self.axes[name] - 1) + (slice(tokens),)
            buffer[target][cut] = buffer[source][cut]

    def clear(self, row: int) -> None:
        """Write zeros into a row."""
        for buffer in self.buffers.values():
            buffer[row] = 0

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""
        return {
            name: buffer[row][(slice(None),) * (self.axes[name] - 1) + (slice(tokens),)].copy()
            for name, buffer in self.buffers.items()
        }

    def write(self, row: int, states: Mapping[str, NDArray[np.generic]], tokens: int) -> None:
        """Write the first `tokens` of states into a row."""
        for name, buffer in self.buffers.items():
            cut = (slice(None),) * (self.axes[name] - 1) + (slice(tokens),)
            buffer[row][cut] = states[name][cut]

    def _make(self, rows: int, tokens: int) -> None:
        try:
            buffers = {
                name: np.zeros(self._shape(edge, rows, tokens), TYPES[edge.dtype]) for name, edge in self.edges.items()
            }
        except MemoryError as error:
            raise Overloaded(f"there is no memory for {rows} rows of {tokens} tokens: try again later") from error
        for name, old in self.buffers.items():
            kept = tuple(slice(min(sizes)) for sizes in zip(old.shape, buffers[name].shape, strict=True))
            buffers[name][kept] = old[kept]
        self.buffers, self.rows, self.tokens = buffers, rows, tokens

    def _shape(self, edge: Edge, rows: int, tokens: int) -> list[int]:
        sizes = {ROWS: rows, self.symbol: tokens}
        return [dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape]
