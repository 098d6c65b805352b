"""The registry: names of the adapters that an engine serves, which may be loaded and unloaded while it runs."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from serve.adapter_place import AdapterPlace, Residency
from serve.adapters.bank import Bank
from serve.adapters.private_copy import keep_private_copy
from serve.bundle.adapter import MAX_NAME_LENGTH, Adapter, AdapterCard, read_adapter
from serve.bundle.reader import Bundle, check_base
from serve.errors import BundleError, InputError, ServeError, UnknownAdapter, as_serve_error, shortened


class Registry:
    """Adapters by name.

    A request resolves its name on arrival and keeps that adapter, even if the name is replaced or unloaded meanwhile.
    """

    def __init__(
        self,
        bundle: Bundle,
        bank: Bank | None,
        check_canaries: Callable[[Sequence[Adapter]], None],
        *,
        pins: Iterable[str] = (),
    ) -> None:
        """Register the adapters of a bundle after `check_canaries`, which raises an error for a wrong one.

        Adapters called as in `pins` are pinned, also those that are loaded later.

        Raises:
            BundleError: An adapter is refused, or pinned ones leave no slot for others.
        """
        self.bundle, self.bank, self.check_canaries, self.pins = bundle, bank, check_canaries, frozenset(pins)
        self.adapters = dict(bundle.adapters)
        """Never changed in place but replaced as a whole, so that any thread can read it without a lock."""
        self.lock = threading.Lock()
        """Held while loading or unloading: one at a time."""
        self.loaded_at = dict.fromkeys(self.adapters, time.time())
        """Time of each adapter's loading, in seconds since 1970; replaced as a whole likewise."""
        self._check(list(self.adapters.values()))
        self._pin(self.adapters)

    @property
    def cards(self) -> dict[str, AdapterCard]:
        """Cards of the adapters, by name."""
        return {name: adapter.card for name, adapter in self.adapters.items()}

    def find_each(self, names: Iterable[str | None]) -> dict[str | None, Adapter]:
        """Return the adapter of each name, as `find` does, all of one moment.

        A request resolves its names so when it arrives: adapters that are replaced later do not answer a part of it.
        """
        return {name: self.find(name) for name in dict.fromkeys(names)}

    def find(self, name: str | None) -> Adapter:
        """Return the adapter called `name`; None selects the only one, members beside their mean not counted.

        Raises:
            UnknownAdapter: No adapter has this name.
            InputError: `name` is None and there is not exactly one adapter.
        """
        adapters = self.adapters
        if name is not None and name in adapters:
            return adapters[name]
        own = _without_members(adapters)
        if name is None and len(own) == 1:
            return next(iter(own.values()))
        if name is None:
            raise InputError(f"name an adapter: {_listed(own)}", "adapter")
        wanted = shortened(name, MAX_NAME_LENGTH)
        raise UnknownAdapter(f"there is no adapter {wanted!r} here; there are {_listed(own)}")

    def members(self, adapter: Adapter) -> list[Adapter]:
        """Return the modules of the mixture that an adapter is the mean of, in order.

        Raises:
            InputError: Not all of them are registered, or they have other labels or inputs than the adapter.
        """
        card = adapter.card
        if card.member_of:
            raise InputError(f"adapter {card.name} is one module itself: ask for the members of {card.member_of}")
        if card.num_modules < 2:
            raise InputError(f"adapter {card.name} is no mixture, it has one module: leave out members")
        found = [one for one in self.adapters.values() if one.card.member_of == card.name]
        if len(found) != card.num_modules:
            raise InputError(
                f"adapter {card.name} has {len(found) or 'none'} of its {card.num_modules} modules here: export its "
                "mixture with --keep-modules"
            )
        if any(_interface(one.card) != _interface(card) for one in found):
            raise InputError(
                f"the modules of adapter {card.name} have other labels or inputs than it has: they are of another "
                "export; export its mixture with --keep-modules, and load it whole"
            )
        return sorted(found, key=lambda one: (len(one.card.name), one.card.name))

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> AdapterCard:
        """Read the adapter in `folder`, check its canary rows, and serve it.

        With `replace` it takes the place of an adapter with the same name, if their labels and inputs are the same. On
        an error the adapters that were served stay as they are.

        Raises:
            BundleError: The adapter is damaged, does not fit, fails its canary rows, is not called `name` where that is
                given, or its name is taken.
        """
        if self.bank is None:
            raise BundleError("this bundle is merged: its graph takes no other adapter; export a bank")
        adapter = read_adapter(folder)
        card = adapter.card
        if name is not None and card.name != name:
            raise BundleError(f"the adapter in {folder} is called {card.name}, not {name}: load it by its own name")
        check_base(adapter, self.bundle.manifest)
        if self.bank.max_host_adapters is not None:
            keep_private_copy(adapter)
        with self.lock:
            before = self.adapters.get(card.name)
            if before is not None and not replace:
                raise BundleError(f"there are two adapters called {card.name}: rename one, or replace the one there is")
            if before is not None and (before.card.labels, before.card.pairs) != (card.labels, card.pairs):
                raise BundleError(
                    f"adapter {card.name} has other labels or inputs than the one it would replace: unload that one "
                    "first, since its clients do not expect them"
                )
            after = {**self.adapters, card.name: adapter}
            try:
                self._check([adapter])
                self._pin(after)
            except BaseException:
                self.bank.remove(adapter)
                raise
            self.loaded_at = {**self.loaded_at, card.name: time.time()}
            self.adapters = after
            if before is not None and before.card.sha256 != card.sha256:
                self.bank.remove(before)
        return card

    def _check(self, adapters: Sequence[Adapter]) -> None:
        """Run the canary rows of adapters.

        Raises:
            BundleError: An adapter's logits differ from PyTorch's, or its rows cannot be run.
        """
        try:
            self.check_canaries(adapters)
        except ServeError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            names = shortened(", ".join(one.card.name for one in adapters), MAX_NAME_LENGTH)
            message = f"the canary rows of {names} cannot be run in {self.bundle.folder}"
            raise as_serve_error(error, BundleError, message) from error

    def unload(self, name: str) -> None:
        """Remove an adapter; requests that arrived before still get it.

        Raises:
            UnknownAdapter: No adapter has this name.
        """
        with self.lock:
            adapter = self.find(name)
            self.adapters = {other: kept for other, kept in self.adapters.items() if other != name}
            self._pin(self.adapters)
            if self.bank is not None and adapter.card.sha256 not in {one.card.sha256 for one in self.adapters.values()}:
                self.bank.remove(adapter)

    def places(self) -> dict[str, AdapterPlace]:
        """Return where each adapter is, by name."""
        times = self.loaded_at
        return {name: self._place(one, times.get(name, 0.0)) for name, one in self.adapters.items()}

    def _place(self, adapter: Adapter, loaded_at: float) -> AdapterPlace:
        card, bank = adapter.card, self.bank
        if bank is None or adapter.empty:
            return AdapterPlace(residency=Residency.GRAPH, rank=card.r, size_bytes=0, loaded_at=loaded_at)
        slot, in_memory = bank.slots.get(card.sha256), adapter.in_memory
        elsewhere = Residency.HOST if in_memory else Residency.DISK
        return AdapterPlace(
            residency=elsewhere if slot is None else Residency.SLOT,
            slot=slot,
            in_host_memory=in_memory,
            pinned=card.sha256 in bank.pinned,
            rank=card.r,
            size_bytes=adapter.size_bytes,
            loaded_at=loaded_at,
        )

    def _pin(self, adapters: Mapping[str, Adapter]) -> None:
        """Pin those of these adapters that have a pinned name; raise a BundleError if no slot would be left."""
        if self.bank is not None and self.pins:
            self.bank.pin([one for name, one in adapters.items() if name in self.pins])


MAX_LISTED = 20
"""Adapters that an error message lists; there may be thousands."""


def _without_members(adapters: dict[str, Adapter]) -> dict[str, Adapter]:
    """Return the adapters that are no members of another one here."""
    return {name: adapter for name, adapter in adapters.items() if adapter.card.member_of not in adapters}


def _interface(card: AdapterCard) -> tuple[object, ...]:
    """Return what an adapter and its members have in common."""
    return card.labels, card.pairs, card.regression, card.max_length


def _listed(adapters: dict[str, Adapter]) -> str:
    names = list(adapters)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more if names else "none"
