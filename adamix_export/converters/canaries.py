"""Run an adapter's canary rows through a converted graph: what every conversion to ONNX ends with."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamix_export.errors import ParityError
from serve.adapters.canaries import canary_tolerance
from serve.bundle.adapter import AdapterCard
from serve.bundle.graph_io import BANK
from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle

Run = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""Takes the inputs of one row, cache included, and returns its logits."""
TYPE_IDS = "token_type_ids"
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def check_canaries(run: Run, edges: list[Edge], card: AdapterCard, bundle: Bundle) -> None:
    """Raise an error if `run`, over a graph of `bundle` with the inputs `edges`, does not give PyTorch's logits."""
    tolerance = canary_tolerance(card, bundle.manifest)
    for row in range(len(card.canary_ids)):
        found, expected = run(_feeds(edges, card, row)).reshape(-1), np.array(card.canary_logits[row])
        if card.canary_tokens:
            found, expected = found[card.canary_tokens[row][:1]], expected[:1]
        found = found[: len(expected)]  # the widest adapter of a bank may have more labels
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=tolerance):
            raise ParityError(
                f"adapter {card.name} does not give the logits that it gave in PyTorch on its canary rows (within "
                f"{tolerance:g}): nothing was written"
            )


def _feeds(edges: list[Edge], card: AdapterCard, row: int) -> dict[str, NDArray[Any]]:
    """Return the inputs (1, …) of a row that begins: ones in the mask, zeros in the cache and elsewhere."""
    ids = card.canary_ids[row]
    tokens = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)}
    if card.canary_token_type_ids and any(edge.name == TYPE_IDS for edge in edges):
        tokens[TYPE_IDS] = np.array([card.canary_token_type_ids[row]], np.int64)
    sizes = {"batch": 1, "sequence": len(ids), "max_length": len(ids)}
    others = [edge for edge in edges if edge.name not in tokens and not edge.name.startswith(BANK)]
    return tokens | {
        edge.name: np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape], DTYPES[edge.dtype])
        for edge in others
    }
