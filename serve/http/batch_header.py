"""The header X-Batch: the batches that the texts of a request were in, by the adapters of their rows."""

from collections import Counter
from collections.abc import Sequence

from serve.api_keys import has_key
from serve.events import BatchFinished
from serve.http.headers import MOST

X_BATCH = "X-Batch"
OTHERS = "*"
"""Stands for adapters that are not named."""


def batch_header(batches: Sequence[BatchFinished], own: set[str]) -> dict[str, str]:
    """Return `X-Batch`: for each batch its adapters with their rows, `tone=4;intent=2, tone=1`.

    Adapters beyond the 16 with the most rows count as `*`; so do, on a server with API keys, those that the request
    itself does not use. There is no header for more than 16 batches.

    Args:
        batches: Batches that texts of the request were in.
        own: Adapters of the request.
    """
    if not 0 < len(batches) <= MOST:
        return {}
    return {X_BATCH: ", ".join(_described(batch, own) for batch in batches)}


def _described(batch: BatchFinished, own: set[str]) -> str:
    counts = Counter(name if name in own or not has_key() else OTHERS for name in batch.adapters)
    named = [(name, rows) for name, rows in counts.most_common(MOST) if name != OTHERS]
    others = counts.total() - sum(rows for _, rows in named)
    return ";".join(f"{name}={rows}" for name, rows in [*named, *([(OTHERS, others)] if others else [])])
