"""Weights in 4 or 8 bits, as `MatMulNBits` and, for embeddings, `GatherBlockQuantized`.

The operator quantizes activations too, but in blocks of each token, so that sequences of a batch do not affect each
other.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from adamix_export.passes.matrices import Array, embeddings, products, table
from adamix_export.passes.nodes import constant, replace
from adamix_export.precision.block_quantization import QuantizedBlocks, quantize_blocks
from adamix_export.precision.gptq import gptq_blocks

INT8_STATES = 4
"""`accuracy_level` of the operator: activations in int8."""
ActivationGrams = Mapping[str, Array]
"""Gram matrices (in, in), the summed outer products of activations, by the activation's name in the graph."""


def quantize(
    grams: ActivationGrams,
    graph: ir.Graph,
    *,
    bits: int | None,
    size: int,
    head_bits: int | None = 8,
    embedding_bits: int = 8,
) -> None:
    """Quantize the embeddings and matrix products of a graph in blocks of `size`; None for bits leaves products.

    The product that gives the logits has `head_bits`; if it shares its matrix with the embedding, that is stored once.
    4-bit matrices are rounded with GPTQ if `grams` has their activations, and to the nearest values otherwise.
    """
    kept: dict[tuple[ir.Value, int], tuple[ir.Value, ir.Value]] = {}
    for product in products(graph):
        own = head_bits if product.is_head else bits
        if own is None:
            continue
        blocks = _round(product.weight, grams.get(product.states.name or "") if own == 4 else None, own, size)
        values, scales = kept[product.matrix, own] = _store(graph, product.node.name, blocks)
        rows, columns = product.weight.shape
        inputs = [product.states, values, scales, None, None, product.bias]
        settings = {"bits": own, "block_size": size, "accuracy_level": INT8_STATES}
        replace(graph, product.nodes, "MatMulNBits", inputs, K=columns, N=rows, **settings)
    for node in embeddings(graph):
        matrix = node.inputs[0]
        assert matrix is not None
        stored = kept.get((matrix, embedding_bits))
        values, scales = stored or _store(graph, node.name, _round(table(node), None, embedding_bits, size))
        inputs = [_flat(graph, values, before=node), node.inputs[1], scales]
        settings = {"bits": embedding_bits, "block_size": size, "gather_axis": 0, "quantize_axis": 1}
        replace(graph, [node], "GatherBlockQuantized", inputs, **settings)


def _round(weight: Array, gram: Array | None, bits: int, size: int) -> QuantizedBlocks:
    if gram is None or weight.shape[1] % size:
        return quantize_blocks(weight, bits=bits, size=size)
    return gptq_blocks(weight, gram, bits=bits, size=size)


def _store(graph: ir.Graph, name: str | None, blocks: QuantizedBlocks) -> tuple[ir.Value, ir.Value]:
    return constant(graph, f"{name}.weight", blocks.values), constant(graph, f"{name}.scale", blocks.scales)


def _flat(graph: ir.Graph, values: ir.Value, *, before: ir.Node) -> ir.Value:
    """Return a node that reshapes blocks (out, blocks, bytes) to (out, bytes), so that the file stores them once."""
    assert values.shape is not None
    shape = constant(graph, f"{values.name}.shape", np.array([values.shape[0], -1], np.int64))
    node = ir.node("Reshape", [values, shape], name=f"{values.name}.flat")
    node.outputs[0].type = values.type
    graph.insert_before(before, node)
    return node.outputs[0]
