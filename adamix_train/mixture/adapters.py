"""Make an adapter of a kind."""

from importlib import import_module

from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.kinds import KINDS
from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape

Adapter = Houlsby | LoRA


def adapter_class(kind: str) -> type[Adapter]:
    """Return the class of `kind`; raise ValueError, which lists the known kinds, if there is none."""
    if kind not in KINDS:
        raise ValueError(f"unknown adapter kind {kind!r}; known are {', '.join(KINDS)} (adamix_train/mixture/kinds.py)")
    module, _, name = KINDS[kind].partition(":")
    found: type[Adapter] = getattr(import_module(module), name)
    return found


def make_adapter(kind: str, shape: AdapterShape, projection: Projection) -> Adapter:
    """Return an adapter of `kind` whose projections are made by `projection` and not yet initialised."""
    return adapter_class(kind)(shape, projection)
