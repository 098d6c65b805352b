"""The adapter kinds by name; a new one is a file beside this one and a line in the table.

A kind is a module around one linear layer of the base. Its projections are called `down` and `up` and are made by a
factory, so that it does not know whether they are plain layers, mixtures, or stacks of a bank. It has

- `forward(x, y)`, which adapts the output y (batch, …, out) of the layer whose input was x (batch, …, in),
- `reset_parameters()`, which initialises it,
- `fold()`, which moves every constant factor into the collapsed weights, so that the weights say it all,
- `sites`, the sites of a family (`adamix_train.families`) that it adapts when the user names none,
- `merge(base)`, which returns a module that does what the layer `base` and the collapsed adapter do together.
"""

from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.lora import LoRA
from adamix_train.mixture.pfeiffer import Pfeiffer
from adamix_train.mixture.projection import Projection
from adamix_train.mixture.shape import AdapterShape

Adapter = Houlsby | LoRA

KINDS: dict[str, type[Adapter]] = {
    "houlsby": Houlsby,
    "lora": LoRA,
    "pfeiffer": Pfeiffer,
}


def make_adapter(kind: str, shape: AdapterShape, projection: Projection) -> Adapter:
    """Return an adapter of `kind`, its projections made by `projection`, its weights not yet initialised."""
    if kind not in KINDS:
        raise ValueError(f"unknown adapter kind {kind!r}; known are {', '.join(KINDS)} (adamix_train/mixture/kinds.py)")
    return KINDS[kind](shape, projection)
