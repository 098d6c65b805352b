"""The two layouts of hidden states in a packed graph, and the nodes that convert one into the other.

Packed: (1, tokens, width), without padding. Padded: (batch, sequence, width).
"""

from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import DOMAIN, constant

TOKENS = "tokens"
"""Symbol for the number of tokens in all sequences."""
INT32, INT64 = ir.DataType.INT32, ir.DataType.INT64
Dims = Sequence[int | str | ir.SymbolicDim | None]


class PackedLayout:
    """Hidden states by layout, from the embeddings on; each is converted at most once."""

    def __init__(self, graph: ir.Graph, embeddings: ir.Value, mask: ir.Value) -> None:
        """Remove the padding of the embeddings.

        Args:
            graph: The graph, which is changed in place.
            embeddings: States (batch, sequence, width) that all layers start from.
            mask: 1 for tokens and 0 for padding on the right, (batch, sequence) int32.
        """
        assert embeddings.shape is not None
        self.graph, self.numbers = graph, count()
        self.batch, self.sequence, width = embeddings.shape
        self.zero = constant(graph, "packing.zero", np.array([0], np.int64))
        lengths = self._insert("ReduceSum", [mask, self._ints("one", 1)], (self.batch,), INT32, keepdims=0)
        flat, self.offsets, ends = self._remove_padding(embeddings, lengths, width)
        self.ends = ends
        """Cumulative lengths of the sequences, from 0, (batch + 1,) int32."""
        self.starts = self._insert("Slice", [ends, self.zero, self._ints("last", -1)], (self.batch,), INT32)
        """First token of each sequence, (batch,) int32."""
        self.start_columns: ir.Value | None = None
        """The same as (batch, 1), once it is needed."""
        self.tokens = self._token_positions(flat)
        """Position of each token among all, padding included, (tokens,) int32."""
        self.flat: dict[ir.Value, ir.Value] = {}
        """Packed states without their first axis, (tokens, width)."""
        self.packed: dict[ir.Value, ir.Value] = {embeddings: self._with_first_axis(flat)}
        self.padded: dict[ir.Value, ir.Value] = {embeddings: embeddings}

    def __contains__(self, value: object) -> bool:
        return value in self.packed or value in self.padded

    def is_packed(self, value: ir.Value | None) -> bool:
        """Return True if the packed form of some states exists."""
        return value in self.packed

    def feed(self, node: ir.Node, states: Sequence[int], *, padded: bool) -> None:
        """Give a node its inputs at the indices `states` in one layout, which is then that of its output."""
        convert, known = (self._as_padded, self.padded) if padded else (self._as_packed, self.packed)
        for index in states:
            value = node.inputs[index]
            assert value is not None
            node.replace_input_with(index, convert(value))
        (output,) = node.outputs
        known[output] = output
        if not padded:
            output.shape = ir.Shape([1, TOKENS, _width(output)])

    def gather_first(self, node: ir.Node, index: ir.Value) -> None:
        """Let a `Gather` of the first token, by the index 0 or [0], read packed states if these exist."""
        states = node.inputs[0]
        if states is None or states not in self.packed:
            return
        assert index.shape is not None
        node.replace_input_with(0, self._flat(states))
        node.replace_input_with(1, self._start_columns() if len(index.shape) else self.starts)
        node.attributes["axis"] = ir.AttrInt64("axis", 0)

    def replace(
        self,
        node: ir.Node,
        op_type: str,
        states: Sequence[ir.Value | None],
        others: Sequence[ir.Value | None],
        attributes: Mapping[str, int | float],
    ) -> None:
        """Replace attention by a packed operator over `states` and `others`, followed by the sequences' lengths."""
        (old,) = node.outputs
        inputs = [*(self._flat(value) for value in states if value is not None), *others, self.offsets, self.ends]
        flat = self._insert(op_type, inputs, (TOKENS, _width(old)), old.dtype, domain=DOMAIN, **attributes)
        new = self._with_first_axis(flat)
        self.packed[new] = new
        old.replace_all_uses_with(new)
        self.graph.remove(node, safe=True)

    def _as_packed(self, value: ir.Value) -> ir.Value:
        """Return states (1, tokens, width)."""
        if value not in self.packed:
            padded, width = self.padded[value], _width(value)
            joined = self._insert("Reshape", [padded, self._ints("joined", 1, -1, 0)], (1, None, width), value.dtype)
            self.packed[value] = self._insert("Gather", [joined, self.tokens], (1, TOKENS, width), value.dtype, axis=1)
        return self.packed[value]

    def _as_padded(self, value: ir.Value) -> ir.Value:
        """Return states (batch, sequence, width), with zeros for padding."""
        if value not in self.padded:
            shape = (self.batch, self.sequence, _width(value))
            inputs = [self._flat(value), self.offsets]
            self.padded[value] = self._insert("RestorePadding", inputs, shape, value.dtype, domain=DOMAIN)
        return self.padded[value]

    def _flat(self, value: ir.Value) -> ir.Value:
        """Return states (tokens, width)."""
        packed = self._as_packed(value)
        if packed not in self.flat:
            self.flat[packed] = self._insert("Squeeze", [packed, self.zero], (TOKENS, _width(value)), value.dtype)
        return self.flat[packed]

    def _with_first_axis(self, flat: ir.Value) -> ir.Value:
        """Return states (1, tokens, width) of states (tokens, width)."""
        packed = self._insert("Unsqueeze", [flat, self.zero], (1, TOKENS, _width(flat)), flat.dtype)
        self.flat[packed] = flat
        return packed

    def _remove_padding(
        self, states: ir.Value, lengths: ir.Value, width: int | ir.SymbolicDim
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the tokens' states (tokens, width), offsets (batch, sequence) and cumulative lengths (batch + 1,).

        The operator's kernel writes its fourth output, the largest length, whether or not it is read.
        """
        node = ir.node("RemovePadding", [states, lengths], domain=DOMAIN, num_outputs=4, name="packing.RemovePadding")
        shapes: list[Dims] = [(TOKENS, width), (self.batch, self.sequence), (None,), (1,)]
        names = ("states", "offsets", "ends", "longest")
        for output, name, shape in zip(node.outputs, names, shapes, strict=True):
            output.name, output.shape = f"packing.{name}", ir.Shape(shape)
            output.type = ir.TensorType(INT32)
        node.outputs[0].type = states.type
        self.graph.append(node)
        flat, offsets, ends, _ = node.outputs
        return flat, offsets, ends

    def _start_columns(self) -> ir.Value:
        """Return the first token of each sequence, (batch, 1)."""
        if self.start_columns is None:
            inputs = [self.starts, self._ints("one", 1)]
            self.start_columns = self._insert("Unsqueeze", inputs, (self.batch, 1), INT32)
        return self.start_columns

    def _token_positions(self, flat: ir.Value) -> ir.Value:
        """Return the offsets of tokens, which come before those of padding."""
        tokens = self._insert("Shape", [flat], (1,), INT64, start=0, end=1)
        offsets = self._insert("Reshape", [self.offsets, self._ints("last", -1)], (None,), INT32)
        return self._insert("Slice", [offsets, self.zero, tokens], (TOKENS,), INT32)

    def _ints(self, name: str, *numbers: int) -> ir.Value:
        """Return a constant, (numbers,) int64."""
        name = f"packing.{name}"
        return self.graph.initializers.get(name) or constant(self.graph, name, np.array(numbers, np.int64))

    def _insert(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Dims,
        dtype: ir.DataType | None,
        *,
        domain: str = "",
        **attributes: int | float,
    ) -> ir.Value:
        """Append a node to the graph, which is sorted at the end; return its output."""
        assert dtype is not None
        name = f"packing.{next(self.numbers)}.{op_type}"
        node = ir.node(op_type, inputs, attributes, domain=domain, name=name)
        (output,) = node.outputs
        output.name, output.shape, output.type = f"{name}.out", ir.Shape(shape), ir.TensorType(dtype)
        self.graph.append(node)
        return output


def is_by_sequence(value: ir.Value | None) -> bool:
    """Return True for a value with a matrix or a vector for each sequence, (batch, rows, columns)."""
    return value is not None and value.shape is not None and len(value.shape) == 3 and not _is_number(value.shape[0])


def _is_number(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int)


def _width(value: ir.Value) -> int | ir.SymbolicDim:
    assert value.shape is not None
    return value.shape[-1]
