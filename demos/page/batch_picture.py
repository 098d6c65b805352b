"""The picture of a batch: a square a row, by adapter, those that were asked for filled."""

from collections.abc import Container, Mapping

from demos.page import markup

OTHERS = "*"
"""Adapters that the server does not name."""
MOST_DRAWN = 32
"""Squares of one adapter."""


def draw_batch(batch: Mapping[str, int], own: Container[str]) -> str:
    """Return a batch, rows by adapter, as HTML; rows of adapters in `own` are filled."""
    named = {"others" if name == OTHERS else name: rows for name, rows in batch.items()}
    total = sum(named.values())
    said = ", ".join(f"{name} {rows}" for name, rows in named.items())
    label = f"One batch of {total} row{'' if total == 1 else 's'}: {said}"
    drawn = "".join(_adapter(name, rows, filled=name in own) for name, rows in named.items())
    return f'<div class="adamix-batch" role="img" aria-label="{markup.escape(label)}">One batch: {drawn}</div>'


def _adapter(name: str, rows: int, *, filled: bool) -> str:
    square = '<i class="own"></i>' if filled else "<i></i>"
    more = f" +{rows - MOST_DRAWN}" if rows > MOST_DRAWN else ""
    return f"<span>{markup.escape(name)} {square * min(rows, MOST_DRAWN)}{more}</span>"
