"""Load a standalone adapter into a running engine: into a spare slot of its bank, checked as at the start."""

from pathlib import Path
from typing import Protocol

from serve.adapter import AdapterCard
from serve.bank import Bank
from serve.bundle import Bundle, with_adapters
from serve.errors import BundleError


class Engine(Protocol):
    """What a classifier and a generator have in common."""

    bundle: Bundle
    cards: dict[str, AdapterCard]
    bank: Bank | None

    def check_canary(self, card: AdapterCard) -> None:
        """Raise an error if an adapter does not give what it gave in PyTorch."""


def load_adapter(engine: Engine, folder: Path) -> AdapterCard:
    """Load the adapter in `folder`; it is known to the engine only once its canary rows have answered as in PyTorch."""
    bundle = with_adapters(engine.bundle, [folder])
    (name,) = bundle.adapters.keys() - engine.bundle.adapters.keys()
    adapter = bundle.adapters[name]
    assert engine.bank is not None  # with_adapters refuses bundles of other shapes
    engine.bank.load(adapter)
    try:
        engine.check_canary(adapter.card)
    except BundleError:
        engine.bank.unload(name)
        raise
    engine.bundle, engine.cards = bundle, {**engine.cards, name: adapter.card}
    return adapter.card
