"""4- and 8-bit weights in blocks, as `MatMulNBits` and, for embeddings, `GatherBlockQuantized`.

Each block of a row has a scale of its own; values are unsigned, zero in their middle. States are quantised block by
block as well, so that rows of a batch do not touch each other.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from adamix_export.precision.matrices import Array, constant, embeddings, products, replace, table

INT8_STATES = 4
"""The operator's `accuracy_level`."""
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Tried on every block of 4 bits: a smaller scale cuts the extreme off and holds the others better."""
ROWS = 2048
"""Of a matrix, quantised at a time."""


@dataclass(frozen=True)
class Blocks:
    """A matrix (out, in) in blocks."""

    values: NDArray[np.uint8]
    """(out, blocks, bytes of a block); of two 4-bit values the first is in the low half of a byte."""
    scales: Array
    """(out, blocks)"""


def quantise(graph: ir.Graph, *, bits: int | None, size: int, head_bits: int = 8, embedding_bits: int = 8) -> None:
    """Put the products (None leaves them) and the embeddings of a graph into blocks of `size`.

    The product that ends in the logits has bits of its own; if its matrix is the embedding's, it is kept once.
    """
    kept: dict[tuple[ir.Value, int], tuple[ir.Value, ir.Value]] = {}
    for product in products(graph) if bits else ():
        own = head_bits if product.nodes[-1].outputs[0].is_graph_output() else bits
        assert own is not None
        values, scales = kept[product.matrix, own] = _store(graph, product.node.name, product.weight, own, size)
        rows, columns = product.weight.shape
        inputs = [product.states, values, scales, None, None, product.bias]
        settings = {"bits": own, "block_size": size, "accuracy_level": INT8_STATES}
        replace(graph, product.nodes, "MatMulNBits", inputs, K=columns, N=rows, **settings)
    for node in embeddings(graph):
        matrix = node.inputs[0]
        assert matrix is not None
        stored = kept.get((matrix, embedding_bits))
        values, scales = stored or _store(graph, node.name, table(node), embedding_bits, size)
        inputs = [_flat(graph, values, before=node), node.inputs[1], scales]
        settings = {"bits": embedding_bits, "block_size": size, "gather_axis": 0, "quantize_axis": 1}
        replace(graph, [node], "GatherBlockQuantized", inputs, **settings)


def _store(graph: ir.Graph, name: str | None, weight: Array, bits: int, size: int) -> tuple[ir.Value, ir.Value]:
    blocks = quantise_blocks(weight, bits=bits, size=size)
    return constant(graph, f"{name}.weight", blocks.values), constant(graph, f"{name}.scale", blocks.scales)


def _flat(graph: ir.Graph, values: ir.Value, *, before: ir.Node) -> ir.Value:
    """Return blocks (out, blocks, bytes) as (out, bytes), in the graph rather than in the file."""
    assert values.shape is not None
    shape = constant(graph, f"{values.name}.shape", np.array([values.shape[0], -1], np.int64))
    node = ir.node("Reshape", [values, shape], name=f"{values.name}.flat")
    node.outputs[0].type = values.type
    graph.insert_before(before, node)
    return node.outputs[0]


def quantise_blocks(weight: Array, *, bits: int, size: int) -> Blocks:
    """Return a matrix (out, in) in blocks of `size` values; rows are filled up with zeros to whole blocks."""
    parts = [_quantise(weight[start : start + ROWS], bits, size) for start in range(0, len(weight), ROWS)]
    return Blocks(np.concatenate([part.values for part in parts]), np.concatenate([part.scales for part in parts]))


def _quantise(weight: Array, bits: int, size: int) -> Blocks:
    rows, columns = weight.shape
    count = -(-columns // size)
    filled = np.pad(weight, ((0, 0), (0, count * size - columns))).reshape(rows, count, size)
    values, scales = _round(filled, bits)
    if bits == 4:
        values = (values[..., 0::2] | values[..., 1::2] << 4).astype(np.uint8)
    return Blocks(values, scales)


def _round(blocks: Array, bits: int) -> tuple[NDArray[np.uint8], Array]:
    """Return unsigned values (…, size) and scales (…) of blocks (…, size): of what is tried, each block's best."""
    middle = 1 << bits - 1
    extremes = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    # The extreme becomes the lowest value: there is one more below zero than above.
    whole = np.where(extremes == 0, np.float32(1), extremes / np.float32(-middle))
    tried = [_rounded(blocks, whole * np.float32(shrink), middle) for shrink in (SHRINKS if bits == 4 else (1.0,))]
    errors = [np.square(values * scale - blocks).sum(-1, keepdims=True) for values, scale in tried]
    values, scales = tried[0]
    least = errors[0]
    for (others, scale), error in zip(tried[1:], errors[1:], strict=True):
        better = error < least
        values, scales = np.where(better, others, values), np.where(better, scale, scales)
        least = np.minimum(error, least)
    unsigned: NDArray[np.uint8] = (values + middle).astype(np.uint8)
    return unsigned, scales[..., 0]


def _rounded(blocks: Array, scale: Array, middle: int) -> tuple[Array, Array]:
    return np.clip(np.rint(blocks / scale), -middle, middle - 1), scale
