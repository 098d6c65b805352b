"""The KV cache: one buffer for each layer and side, grown in steps up to a bound.

A buffer is (rows, heads, tokens, head width), or whatever shape its graph input has, rows first. Attention writes new
entries in place: a run over some rows receives that part of the memory, and nothing is copied.
"""

from collections.abc import Sequence

import onnxruntime as ort

from serve.bundle.graph_io import BATCH, PAST, PRESENT
from serve.bundle.manifest import Edge
from serve.errors import Overloaded
from serve.runtime.buffers import BUFFERS, TYPES, Layout, States

GROWTH_STEP = 128
"""Tokens by which the buffers grow."""


class KVCache:
    """Buffers by the names of their edges, with room for as many rows and tokens as were needed so far."""

    def __init__(
        self,
        edges: Sequence[Edge],
        *,
        token_symbol: str,
        max_tokens: int,
        step: int = GROWTH_STEP,
        is_written: bool = True,
        device: str,
    ) -> None:
        """Create empty buffers.

        Args:
            edges: One for each buffer; their names lack the prefix `past_key_values.`.
            token_symbol: Symbolic dimension of the tokens, which grows.
            max_tokens: Bound of rows × tokens.
            step: Tokens by which the buffers grow.
            is_written: Runs write the buffers as well as read them.
            device: Kind of device that holds them.
        """
        self.edges = {edge.name: edge for edge in edges}
        self.symbol, self.max_tokens, self.step, self.is_written = token_symbol, max_tokens, step, is_written
        self.rows = self.tokens = 0
        self.buffers = BUFFERS[device](self._layouts(0, 0), device)

    def fits(self, rows: int, tokens: int) -> bool:
        """Return True if the buffers have room for this many rows of this many tokens."""
        return rows <= self.rows and tokens <= self.tokens

    def reserve(self, rows: int, tokens: int) -> None:
        """Make room for `rows` rows, the used ones included, of `tokens` tokens; contents stay.

        Room that was needed before is kept where the bound allows it.

        Raises:
            Overloaded: Memory is short; the buffers stay as they are.
        """
        if self.fits(rows, tokens):
            return
        stepped = -(-tokens // self.step) * self.step
        doubled = rows if rows <= self.rows else max(rows, 2 * self.rows)  # few copies on the way to many rows
        for new_rows in (doubled, rows):
            size = max(new_rows, self.rows), max(stepped, self.tokens)
            if size[0] * size[1] <= self.max_tokens:
                self._resize(*size)
                return
        self._resize(rows, max(tokens, min(stepped, self.max_tokens // rows)))

    def shrink(self, rows: int, tokens: int) -> None:
        """Give back the room behind the first `rows` rows and `tokens` tokens; what is within stays.

        Raises:
            Overloaded: Memory is short; the buffers stay as they are.
        """
        if rows < self.rows or tokens < self.tokens:
            self._resize(min(rows, self.rows), min(tokens, self.tokens))

    def bind(self, binding: ort.IOBinding, first: int, count: int) -> None:
        """Bind the memory of `count` rows, from row `first` on, to a run."""
        for name in self.edges:
            outputs = [PRESENT + name] if self.is_written else []
            self.buffers.bind(binding, name, (PAST + name, *outputs), first, count)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` tokens of a row to another row."""
        self.buffers.move(source, target, tokens)

    def clear(self, row: int) -> None:
        """Fill a row with zeros."""
        self.buffers.clear(row)

    def read(self, row: int, tokens: int) -> States:
        """Return a copy of the first `tokens` tokens of a row."""
        return self.buffers.read(row, tokens)

    def write(self, row: int, states: States, tokens: int) -> None:
        """Write the first `tokens` tokens of `states` into a new row; its contents behind them are lost."""
        self.buffers.write(row, states, tokens)

    def _resize(self, rows: int, tokens: int) -> None:
        try:
            self.buffers = self.buffers.resized(self._layouts(rows, tokens))
        except MemoryError as error:
            raise Overloaded(f"there is no memory for {rows} rows of {tokens} tokens: try again later") from error
        self.rows, self.tokens = rows, tokens

    def _layouts(self, rows: int, tokens: int) -> dict[str, Layout]:
        sizes = {BATCH: rows, self.symbol: tokens}
        return {
            name: Layout(
                shape=tuple(dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape),
                axis=edge.shape.index(self.symbol),
                dtype=TYPES[edge.dtype],
            )
            for name, edge in self.edges.items()
        }
