"""Labels of adapters: a time series is kept for each value of a label, so that there have to be few."""

from collections.abc import Iterable

OTHER = "other"
"""Label of all adapters beyond a number."""


class AdapterLabels:
    """Adapters that have a label of their own, those that were used first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.names: set[str] = set()

    def of(self, adapter: str) -> str:
        """Return the label of an adapter that has been used."""
        if adapter not in self.names:
            if len(self.names) >= self.limit:
                return OTHER
            self.names.add(adapter)
        return adapter

    def add_all(self, adapters: Iterable[str]) -> None:
        """Give adapters that were not used labels too, if there are enough for all of them."""
        names = self.names.union(adapters)
        if len(names) <= self.limit:
            self.names = names
