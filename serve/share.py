"""The share of an engine that a request has had."""

from dataclasses import dataclass


@dataclass(eq=False)
class Share:
    """How much of a request has begun. Its deadline is for the beginning: what has begun is finished."""

    rows: int
    """Rows of a batch that the request needs, at the same time or one after another."""
    tenant: str = ""
    """Owner of the request's turns: its API key, or its adapter on a server without keys."""
    has_key: bool = False
    """The tenant is an API key."""
    begun: int = 0
    """Rows that have begun."""
