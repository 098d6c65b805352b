"""Adapters with their weights in host memory, a cache with least-recently-used replacement."""

from collections import OrderedDict
from collections.abc import Set

from serve.bundle.adapter import Adapter


class HostMemory(OrderedDict[str, Adapter]):
    """Adapters by sha256, least recently used first; those that leave forget their weights."""

    def __init__(self, limit: int | None) -> None:
        """Keep the weights of at most so many adapters; None keeps all."""
        super().__init__()
        self.limit = limit

    def hold(self, adapter: Adapter, *, pinned: Set[str]) -> None:
        """Keep an adapter as the most recently used; `pinned` ones leave in no case."""
        before = self.pop(adapter.card.sha256, adapter)
        if before is not adapter:
            before.forget()  # the same weights under another name
        self[adapter.card.sha256] = adapter
        while self.limit is not None and len(self) > self.limit:
            oldest = next((sha256 for sha256 in self if sha256 not in pinned), None)
            if oldest is None:
                break
            self.pop(oldest).forget()
