"""Texts through classifiers: one request for all adapters, and its result as labels and scores."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from demos.page.catalog import AdapterFacts, Catalog
from demos.page.server_client import ServerClient


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """A text's labels through one adapter."""

    adapter: str
    sha256: str
    scores: list[tuple[str, float]]
    """Labels with their probabilities, the highest first; a regression has its value."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The response to a text through several adapters."""

    results: list[LabelScores]
    milliseconds: float
    """From sending the request until its response was here."""
    batches: list[dict[str, int]]
    """Batches that the texts were in: rows by adapter, `*` for those that the server does not name; empty if it does
    not say."""


Input = tuple[str, str]
"""A text and the name of its adapter."""


async def predict(client: ServerClient, inputs: Sequence[Input | tuple[str, str, str]]) -> Answer:
    """Return one result for each input, in one request; an input of three has two texts before its adapter.

    Raises:
        PageError: The server does not answer, or answers with an error.
    """
    body = {
        "inputs": [list(texts) for *texts, _ in inputs],
        "adapter": [adapter for *_, adapter in inputs],
        "truncate": True,
        "return_adapter": True,
        "return_batch": True,
    }
    started = time.perf_counter()
    found, headers = await client.post_with_headers("/predict", body)
    milliseconds = 1000 * (time.perf_counter() - started)
    results = [
        LabelScores(
            adapter=scores[0]["adapter"],
            sha256=scores[0]["sha256"],
            scores=[(one["label"], one["score"]) for one in scores],
        )
        for scores in found
    ]
    return Answer(results=results, milliseconds=milliseconds, batches=read_batches(headers.get("x-batch", "")))


def read_batches(header: str) -> list[dict[str, int]]:
    """Return the batches of the header X-Batch, `tone=4;intent=2, tone=1`."""
    parts = [dict(row.partition("=")[::2] for row in batch.split(";")) for batch in header.split(", ") if batch]
    return [{name: int(rows) for name, rows in part.items()} for part in parts]


async def predict_each(
    client: ServerClient, catalog: Catalog, text: str, second: str, names: Sequence[str]
) -> list[Answer]:
    """Return the answers for one text, in as few requests as the server allows.

    Raises:
        PageError: The server does not answer, or answers with an error.
    """
    inputs = [(text, second, name) if _takes_pairs(catalog, name) else (text, name) for name in names]
    starts = range(0, len(inputs), catalog.max_texts)
    return [await predict(client, inputs[start : start + catalog.max_texts]) for start in starts]


async def token_counts(client: ServerClient, adapters: Sequence[AdapterFacts], text: str) -> dict[str, int]:
    """Return the tokens that a text has, by adapter, for those that may read only its beginning.

    Raises:
        PageError: The server does not answer, or answers with an error.
    """
    # A token has a byte at least; two are added around a text.
    long = [one for one in adapters if len(text.encode()) + 2 > one.max_length]
    if not long:
        return {}
    found = await client.post("/tokenize", {"prompt": text, "model": long[0].name})
    return {one.name: found["count"] for one in long}


def _takes_pairs(catalog: Catalog, name: str) -> bool:
    return name in catalog.adapters and catalog.adapters[name].pairs
