"""Let a decoder give its largest logits, from which most tokens can be sampled without the others."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from adamix_export.passes.nodes import constant
from serve.bundle.graph_io import BATCH, CANDIDATE_LOGITS, CANDIDATE_TOKENS, LOG_SUM_EXP, LOGITS

CANDIDATES = 256
"""Logits of a row, at 3 KB: four times the largest `top_k` that is usual.

In prose and in SmolLM2's own texts they have 90 % of its probability at temperature 1 and 99 % at 0.7; half as many
have 87 and 98 %, twice as many 94 and 99.5 %."""
WIDTH = 1024
"""Logits among which CUDA sorts in the shared memory of one block; it searches more of them in several passes."""
NUMBER = ir.DataType.INT64


def add_candidates(graph: ir.Graph, count: int = CANDIDATES, width: int = WIDTH) -> None:
    """Add the outputs `candidate_tokens`, `candidate_logits` and `log_sum_exp`; without `logits` add nothing.

    The largest logits are found in two steps, as CUDA has one block for each row: in every `width` logits, and among
    those that were found.
    """
    logits = next((value for value in graph.outputs if value.name == LOGITS), None)
    if logits is None:
        return
    nodes = _Nodes(graph, logits.dtype or ir.DataType.FLOAT)
    size = _dims(logits)[-1]
    count = min(count, size)
    if size > 2 * width:
        in_chunks = nodes.in_chunks(logits, size, width)
        values, tokens = nodes.largest(in_chunks, count)
    else:
        in_chunks = logits
        values, tokens = nodes.top(logits, count)
    log_sum = nodes.log_sum_exp(in_chunks)
    for value, name in ((tokens, CANDIDATE_TOKENS), (values, CANDIDATE_LOGITS), (log_sum, LOG_SUM_EXP)):
        value.name = name
        graph.outputs.append(value)


class _Nodes:
    """Nodes at the end of a graph."""

    def __init__(self, graph: ir.Graph, dtype: ir.DataType) -> None:
        self.graph, self.dtype = graph, dtype

    def in_chunks(self, logits: ir.Value, size: int, width: int) -> ir.Value:
        """Return logits (batch, 1, size) in chunks (batch, chunks, width), the last one filled up."""
        chunks = -(-size // width)
        pads = self.constant("pads", [0, 0, 0, 0, 0, chunks * width - size])
        least = constant(self.graph, f"{CANDIDATE_LOGITS}_least", np.array(np.finfo(np.float32).min))
        padded = self.add("Pad", logits, pads, least, shape=(BATCH, 1, chunks * width))
        shape = self.constant("chunks", [0, chunks, width])
        return self.add("Reshape", padded, shape, shape=(BATCH, chunks, width))

    def largest(self, in_chunks: ir.Value, count: int) -> tuple[ir.Value, ir.Value]:
        """Return the largest logits of all chunks and their tokens, (batch, 1, count) each."""
        chunks, width = _dims(in_chunks)
        each = min(count, width)
        values, places = self.top(in_chunks, each)
        begins = self.constant("begins", (np.arange(chunks) * width)[:, None])
        tokens = self.add("Add", places, begins, shape=(BATCH, chunks, each), dtype=NUMBER)
        row = (BATCH, 1, chunks * each)
        flat = self.constant("row", [0, *row[1:]])
        values = self.add("Reshape", values, flat, shape=row)
        tokens = self.add("Reshape", tokens, flat, shape=row, dtype=NUMBER)
        values, places = self.top(values, count)
        return values, self.add("GatherElements", tokens, places, shape=(BATCH, 1, count), dtype=NUMBER, axis=-1)

    def log_sum_exp(self, in_chunks: ir.Value) -> ir.Value:
        """Return the logarithm of the sum of all exponentials, (batch, 1).

        Chunks are summed first: over 50,000 numbers one by one, fp32 is off by 3e-4.
        """
        last = self.constant("axis", [-1])
        each = self.add("ReduceLogSumExp", in_chunks, last, shape=(BATCH, _dims(in_chunks)[0]), keepdims=0)
        return self.add("ReduceLogSumExp", each, last, shape=(BATCH, 1), keepdims=1)

    def top(self, values: ir.Value, count: int) -> tuple[ir.Value, ir.Value]:
        """Return the largest of each row of values (batch, rows, width) and their places, (batch, rows, count) each."""
        shape = (BATCH, _dims(values)[0], count)
        number = self.constant(f"count_{len(self.graph)}", [count])
        found = self.add("TopK", values, number, shape=shape, outputs=2)
        node = found.producer()
        assert node is not None
        places = node.outputs[1]
        places.type, places.shape = ir.TensorType(NUMBER), ir.Shape(shape)
        return found, places

    def constant(self, name: str, numbers: Sequence[int] | np.ndarray) -> ir.Value:
        """Return whole numbers."""
        return constant(self.graph, f"{CANDIDATE_TOKENS}_{name}", np.array(numbers, np.int64))

    def add(
        self,
        op_type: str,
        *inputs: ir.Value,
        shape: Sequence[int | str],
        dtype: ir.DataType | None = None,
        outputs: int = 1,
        **attributes: int,
    ) -> ir.Value:
        """Return the first output of a new node."""
        name = f"{CANDIDATE_TOKENS}_{len(self.graph)}"
        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=outputs)
        self.graph.append(node)
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype or self.dtype), ir.Shape(shape)
        return node.outputs[0]


def _dims(value: ir.Value) -> list[int]:
    """Return the dimensions behind the batch."""
    assert value.shape is not None
    return [dim for dim in value.shape[1:] if isinstance(dim, int)]
