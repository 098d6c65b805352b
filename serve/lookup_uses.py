"""Uses of adapters by requests: which are in use, and when each was used last."""

import time
from collections import Counter
from collections.abc import Collection, Iterable


class LookupUses:
    """Uses by the requests of one process; its event loop notes them, and any thread may ask."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        """Time of the last use of each adapter, in seconds of the monotonic clock, which processes share."""
        self.in_use: Counter[str] = Counter()
        """Requests that name an adapter at the moment."""
        self.leaving: set[str] = set()
        """Adapters that are about to be unloaded, perhaps by another process."""

    def begin(self, names: "Counter[str]") -> None:
        """Keep adapters; what is leaving already has to be looked up again."""
        self.in_use += names

    def end(self, names: "Counter[str]") -> None:
        """Keep adapters no longer."""
        self.in_use -= names

    def note(self, names: Iterable[str]) -> None:
        """Note a use of each."""
        now = time.monotonic()
        for name in names:
            self.last[name] = now

    def is_leaving(self, name: str) -> bool:
        """Return True for an adapter that is served, and perhaps not for long."""
        return name in self.leaving

    def release(self, name: str) -> bool:
        """Let an adapter be unloaded; return False if it is in use.

        A request counts itself before it looks whether an adapter is leaving, and this is the other way round: one of
        the two sees the other.
        """
        self.leaving.add(name)
        if self.in_use[name]:
            self.leaving.discard(name)
            return False
        return True

    def stay(self, name: str) -> None:
        """Note that an adapter is served, and is not unloaded now."""
        self.leaving.discard(name)

    def forget_but(self, names: Collection[str]) -> None:
        """Forget the last uses of all other adapters."""
        for name in [one for one in self.last.copy() if one not in names]:
            self.last.pop(name, None)
