"""The adapters that lookups have loaded: no more than a number of them, over all processes of a server."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from serve.adapter_loading import AdapterLoading
from serve.lookup_uses import LookupUses


class Siblings(Protocol):
    """The other processes of a server."""

    def last_uses(self) -> Sequence[Mapping[str, float]]:
        """Return the last uses of adapters in each, as `LookupUses` has them."""

    def release(self, name: str) -> bool:
        """Let an adapter be unloaded; return False if one of them uses it."""


class NoSiblings:
    """A server that is one process."""

    def last_uses(self) -> Sequence[Mapping[str, float]]:
        """Return nothing."""
        return []

    def release(self, name: str) -> bool:
        """Allow it."""
        return True


class BoundedLookup:
    """Loads adapters by name, and unloads those of them that no process has used for longest."""

    def __init__(
        self,
        loading: AdapterLoading,
        *,
        most: int,
        pins: Collection[str] = (),
        siblings: Siblings | None = None,
    ) -> None:
        """Describe it.

        Args:
            loading: The adapters, and what became of their folders.
            most: Adapters that are kept, beside pinned ones and those that requests use at the moment.
            pins: Names of those that are never unloaded.
            siblings: The other processes of the server.
        """
        self.loading, self.most, self.pins = loading, most, frozenset(pins)
        self.siblings, self.uses = siblings or NoSiblings(), LookupUses()

    def load(self, name: str) -> bool:
        """Load an adapter from the folder of its name; return False if there is none; see `AdapterLoading.look_up`."""
        is_there = self.loading.look_up(name)
        self.uses.stay(name)
        return is_there

    def make(self) -> bool:
        """Unload those beyond the bound, the one that was not used for longest first; return False if too many stay."""
        with self.loading.turn:
            names = self.loading.looked_up()
            self.uses.forget_but(names)
            names -= self.pins
            if len(names) <= self.most:
                return True
            last: dict[str, float] = {}
            for each in (self.uses.last.copy(), *self.siblings.last_uses()):
                last |= {name: max(when, last.get(name, when)) for name, when in each.items()}
            for name in sorted(names, key=lambda one: (last.get(one, 0.0), one)):
                if len(names) > self.most and self._is_released(name):
                    self.loading.drop(name)
                    names.discard(name)
            return len(names) <= self.most

    def _is_released(self, name: str) -> bool:
        """Return whether no process uses an adapter, so that each loads it again before it does."""
        if self.uses.release(name) and self.siblings.release(name):
            return True
        self.uses.stay(name)
        return False
