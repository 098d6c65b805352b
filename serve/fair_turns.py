"""Turns between tenants: each gets the same amount of an engine's work, whatever the others ask for."""

from collections import defaultdict
from collections.abc import Collection


class FairTurns:
    """Counts the work that each tenant has had, after the virtual token counter of Sheng et al. (OSDI 2024).

    The next turn is that of the waiting tenant that has had the least. One that comes back after a pause begins at the
    level of those that wait: it has saved up nothing.
    """

    def __init__(self) -> None:
        self.had: dict[str, float] = defaultdict(float)
        """Work of each tenant, in the unit of the caller."""
        self.last_turn: dict[str, int] = defaultdict(int)
        """Number of the turn that each tenant had last."""
        self.turn = 0
        self.level = 0.0
        """Least work of those that waited at the last turn."""

    def join(self, tenant: str, waiting: Collection[str]) -> None:
        """Let a tenant wait beside the others that wait already."""
        if tenant not in waiting:
            level = min((self.had[one] for one in waiting), default=self.level)
            self.had[tenant] = max(self.had[tenant], level)

    def next(self, waiting: Collection[str]) -> str:
        """Return the tenant that has had the least of those that wait; of equals the one without a turn for longest."""
        tenant = min(waiting, key=lambda one: (self.had[one], self.last_turn[one]))
        self.turn += 1
        self.last_turn[tenant], self.level = self.turn, self.had[tenant]
        return tenant

    def charge(self, tenant: str, work: float) -> None:
        """Count work for a tenant."""
        self.had[tenant] += work
