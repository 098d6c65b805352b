"""The adapter kinds by name; a new one is a file beside this one and a line here."""

from adamix_train.mixture.adapter import Adapter, AdapterShape
from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.projection import Projection

KINDS: dict[str, type[Houlsby] | type[LoRA]] = {
    "houlsby": Houlsby,
    "lora": LoRA,
}


def make_adapter(kind: str, shape: AdapterShape, projection: Projection) -> Adapter:
    """Return an adapter of `kind`, its projections made by `projection`, its weights not yet initialised."""
    if kind not in KINDS:
        raise ValueError(f"unknown adapter kind {kind!r}; known are {', '.join(KINDS)} (adamix_train/mixture/kinds.py)")
    return KINDS[kind](shape, projection)
