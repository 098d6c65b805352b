"""Canary check of a converted graph; every conversion to ONNX ends with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamix_export.errors import ParityError
from serve.adapters.canaries import compare_canaries
from serve.bundle.adapter import AdapterCard
from serve.bundle.graph_io import ATTENTION_MASK, BANK, BATCH, INPUT_IDS, MAX_LENGTH, SEQUENCE, TOKEN_TYPE_IDS
from serve.bundle.manifest import Edge
from serve.bundle.reader import Bundle
from serve.errors import BundleError

Run = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""Takes the inputs of a batch of one, cache included, and returns its logits: (1, labels), or by token."""
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def check_canaries(run: Run, edges: list[Edge], card: AdapterCard, bundle: Bundle) -> None:
    """Raise a `ParityError` if a converted graph does not give PyTorch's logits for an adapter's canaries.

    `run` runs the graph, which was made from `bundle` and has the inputs `edges`.
    """
    rows = range(len(card.canary_ids))
    found = [run(_feeds(edges, card, row)) for row in rows]
    found = [logits.reshape(-1, logits.shape[-1])[-1] for logits in found]  # of the last token
    if card.canary_tokens:  # of a generator, the first token's logit
        card = replace(card, canary_logits=[logits[:1] for logits in card.canary_logits])
        found = [logits[card.canary_tokens[row][:1]] for row, logits in zip(rows, found, strict=True)]
    else:  # logits are as wide as the bank's adapter with the most labels
        found = [logits[: len(card.labels)] for logits in found]
    try:
        compare_canaries(card, found, bundle.manifest)
    except BundleError as error:
        raise ParityError(f"{error}; nothing was written") from error


def _feeds(edges: list[Edge], card: AdapterCard, row: int) -> dict[str, NDArray[Any]]:
    """Return the inputs (1, …) of a canary: ones in the attention mask, zeros in the cache and everywhere else."""
    ids = card.canary_ids[row]
    tokens = {INPUT_IDS: np.array([ids], np.int64), ATTENTION_MASK: np.ones((1, len(ids)), np.int64)}
    if card.canary_token_type_ids and any(edge.name == TOKEN_TYPE_IDS for edge in edges):
        tokens[TOKEN_TYPE_IDS] = np.array([card.canary_token_type_ids[row]], np.int64)
    sizes = {BATCH: 1, SEQUENCE: len(ids), MAX_LENGTH: len(ids)}
    others = [edge for edge in edges if edge.name not in tokens and not edge.name.startswith(BANK)]
    return tokens | {
        edge.name: np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape], DTYPES[edge.dtype])
        for edge in others
    }
