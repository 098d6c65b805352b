"""The cache of a decoder's rows: one buffer a layer and side, grown in steps to a bound, whose first rows are in use.

A buffer is (rows, heads, tokens, head width), or whatever an edge's shape says, with the rows first. The operator
writes new entries into it in place: a run over some rows is given that part of the memory, and nothing is copied.
"""

from collections.abc import Sequence

import onnxruntime as ort

from serve.bundle.manifest import Edge
from serve.errors import Overloaded
from serve.runtime.buffers import BUFFERS, TYPES, Layout, States

PAST = "past_key_values."
PRESENT = "present."
ROWS = "batch"
STEP = 128
"""Tokens by which the buffers grow."""


class KeyValues:
    """Buffers by the names of their edges, for as many rows and tokens as were needed so far, within a bound."""

    def __init__(
        self, edges: Sequence[Edge], *, tokens: str, bound: int, step: int = STEP, written: bool = True, device: str
    ) -> None:
        """Make buffers without room; `tokens` is the symbol of the dimension that grows, in steps of `step`.

        Rows times tokens come to `bound` at most. A run writes them as well as it reads them, if they are `written`.
        """
        self.edges = {edge.name: edge for edge in edges}
        self.symbol, self.bound, self.step, self.written = tokens, bound, step, written
        self.rows = self.tokens = 0
        self.buffers = BUFFERS[device](self._layouts(0, 0), device)

    def fits(self, rows: int, tokens: int) -> bool:
        """Return whether there is room for so many rows of so many tokens."""
        return rows <= self.rows and tokens <= self.tokens

    def reserve(self, rows: int, tokens: int) -> None:
        """Make room for all rows in use, so many, of so many tokens; what is there stays.

        Room that was needed before is kept if the bound allows it. Without memory the buffers stay as they are.
        """
        if self.fits(rows, tokens):
            return
        steps = -(-tokens // self.step) * self.step
        twice = rows if rows <= self.rows else max(rows, 2 * self.rows)  # few copies on the way to many rows
        for more, longer in ((twice, steps), (rows, steps)):
            if max(more, self.rows) * max(longer, self.tokens) <= self.bound:
                self._resize(max(more, self.rows), max(longer, self.tokens))
                return
        self._resize(rows, max(tokens, min(steps, self.bound // rows)))

    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        """Give a run the memory of `count` rows from `first` on."""
        for name in self.edges:
            outputs = [PRESENT + name] if self.written else []
            self.buffers.bind(binding, name, (PAST + name, *outputs), first, count)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of a row to another."""
        self.buffers.move(source, target, tokens)

    def clear(self, row: int) -> None:
        """Write zeros into a row."""
        self.buffers.clear(row)

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` of a row."""
        return self.buffers.read(row, tokens)

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` of states into a row, which is new: what lies behind them is lost."""
        self.buffers.write(row, states, tokens)

    def _resize(self, rows: int, tokens: int) -> None:
        try:
            self.buffers = self.buffers.resized(self._layouts(rows, tokens))
        except MemoryError as error:
            raise Overloaded(f"there is no memory for {rows} rows of {tokens} tokens: try again later") from error
        self.rows, self.tokens = rows, tokens

    def _layouts(self, rows: int, tokens: int) -> dict[str, Layout]:
        sizes = {ROWS: rows, self.symbol: tokens}
        return {
            name: Layout(
                shape=tuple(dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape),
                axis=edge.shape.index(self.symbol),
                dtype=TYPES[edge.dtype],
            )
            for name, edge in self.edges.items()
        }
