"""The share of an engine that a request has had."""

from dataclasses import dataclass


@dataclass(eq=False)
class Share:
    """How much of a request has begun. Its deadline is for the beginning: what has begun is finished."""

    rows: int
    """Rows of a batch that the request needs, at the same time or one after another."""
    has_key: bool = False
    """Its turns are those of an API key, not of its adapters."""
    begun: int = 0
    """Rows that have begun."""
