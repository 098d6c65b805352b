"""The adapters that an engine serves, by name, while they come and go."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from serve.adapters.bank import Bank
from serve.bundle.adapter import LONGEST_NAME, Adapter, AdapterCard, read_adapter
from serve.bundle.reader import Bundle, check_base
from serve.errors import BundleError, InputError, UnknownAdapter, shortened


class Registry:
    """Names and the adapters behind them.

    A row keeps the adapter that it was given when it came, so that it is answered by that one whatever becomes of the
    name.
    """

    def __init__(self, bundle: Bundle, bank: Bank | None, check_canaries: Callable[[Sequence[Adapter]], None]) -> None:
        """Serve the adapters of a bundle, once they have passed `check_canaries`, which raises an error otherwise."""
        self.bundle, self.bank, self.check_canaries = bundle, bank, check_canaries
        self.adapters = dict(bundle.adapters)
        """Replaced as a whole when one comes or goes, so that it can be read at any time."""
        self.lock = threading.Lock()
        """Held by whoever loads or unloads: one at a time."""
        check_canaries(list(self.adapters.values()))

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """The cards by name."""
        return {name: adapter.card for name, adapter in self.adapters.items()}

    def find(self, name: str | None) -> Adapter:
        """Return the adapter of a name, None being the only one, or an error that lists those there are."""
        adapters = self.adapters
        if name is None and len(adapters) == 1:
            return next(iter(adapters.values()))
        if name is None:
            raise InputError(f"name an adapter: {_listed(adapters)}")
        if name not in adapters:
            wanted = shortened(name, LONGEST_NAME)
            raise UnknownAdapter(f"there is no adapter {wanted!r} here; there are {_listed(adapters)}")
        return adapters[name]

    def load(self, folder: Path, *, replace: bool = False) -> AdapterCard:
        """Read an adapter and serve it, once its canary rows have answered as in PyTorch; or raise an error.

        With `replace` it takes the name of one that is there, if it has the same labels. Whatever goes wrong, what was
        served is served on.
        """
        if self.bank is None:
            raise BundleError(
                f"{self.bundle.folder} is a merged bundle: its graph takes no other adapter; export a bank"
            )
        adapter = read_adapter(folder)
        card = adapter.card
        check_base(adapter, self.bundle.manifest)
        with self.lock:
            before = self.adapters.get(card.name)
            if before is not None and not replace:
                raise BundleError(f"there are two adapters called {card.name}: rename one, or replace the one there is")
            if before is not None and (before.card.labels, before.card.pairs) != (card.labels, card.pairs):
                raise BundleError(
                    f"adapter {card.name} has other labels or inputs than the one it would replace: unload that one "
                    "first, since its clients do not expect them"
                )
            try:
                self.check_canaries([adapter])
            except BaseException:
                self.bank.remove(adapter)
                raise
            self.adapters = {**self.adapters, card.name: adapter}
            if before is not None and before.card.sha256 != card.sha256:
                self.bank.remove(before)
        return card

    def unload(self, name: str) -> None:
        """Serve an adapter no more; rows that came before are answered by it."""
        with self.lock:
            adapter = self.find(name)
            self.adapters = {other: kept for other, kept in self.adapters.items() if other != name}
            if self.bank is not None and adapter.card.sha256 not in {one.card.sha256 for one in self.adapters.values()}:
                self.bank.remove(adapter)


NAMED = 20
"""Adapters that an error lists; there may be thousands."""


def _listed(adapters: dict[str, Adapter]) -> str:
    names = list(adapters)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more if names else "none"
