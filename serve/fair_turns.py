"""Turns between tenants: each gets the same amount of an engine's work, whatever the others ask for."""

from collections import defaultdict
from collections.abc import Collection, Sequence


class FairTurns:
    """Counts the work that each tenant has had, after the virtual token counter of Sheng et al. (OSDI 2024).

    A turn is that of the tenant that has had the least (`least`), or of the one that has waited longest of those that
    have had nearly as little (`oldest`): with the former alone, tenants that ask for the same would wait very
    differently. One that comes back after a pause begins at the level of those that wait: it has saved up nothing.
    """

    def __init__(self) -> None:
        self.had: dict[str, float] = defaultdict(float)
        """Work of each tenant, in the unit of the caller."""
        self.level = 0.0
        """Least work of those that waited at the last turn."""

    def join(self, tenant: str, waiting: Collection[str]) -> None:
        """Let a tenant wait beside the others that wait already."""
        if tenant not in waiting:
            level = min((self.had[one] for one in waiting), default=self.level)
            self.had[tenant] = max(self.had[tenant], level)

    def least(self, waiting: Sequence[str]) -> str:
        """Return the tenant that has had the least of those that wait, the longest first; of equals the newest."""
        tenant = min(reversed(waiting), key=self.had.__getitem__)
        self.level = self.had[tenant]
        return tenant

    def oldest(self, waiting: Sequence[str], slack: float) -> str:
        """Return the first of those that wait that has had at most `slack` more than the one that has had the least."""
        self.level = min(self.had[one] for one in waiting)
        return next(one for one in waiting if self.had[one] <= self.level + slack)

    def charge(self, tenant: str, work: float) -> None:
        """Count work for a tenant."""
        self.had[tenant] += work
