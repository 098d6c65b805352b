"""The place of an adapter's weights: in a slot, in host memory, or on disk."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class Residency(enum.StrEnum):
    """The nearest place that an adapter's weights are in."""

    GRAPH = "graph"
    """Merged into the graph."""
    SLOT = "slot"
    """In a slot of the bank: a batch runs through it at once."""
    HOST = "host"
    """In host memory: it is written into a slot when it is requested."""
    DISK = "disk"
    """On disk alone: it is read again when it is requested."""


@dataclass(frozen=True, kw_only=True)
class AdapterPlace:
    """One adapter that an engine serves, and where it is at this moment."""

    residency: Residency
    slot: int | None = None
    """Its slot; None if it is in none."""
    in_host_memory: bool = False
    pinned: bool = False
    """It keeps its slot, however long ago it was used."""
    rank: int
    """Rank or bottleneck width; 0 for an adapter that has none."""
    size_bytes: int
    """Bytes of its weights; 0 where they are a part of the graph."""
    loaded_at: float
    """Time of its loading, in seconds since 1970."""


@runtime_checkable
class HasAdapterPlaces(Protocol):
    """An engine that knows where its adapters are."""

    def adapter_places(self) -> Mapping[str, AdapterPlace]:
        """Return the place of each adapter by name; callable from any thread."""
