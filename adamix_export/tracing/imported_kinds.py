"""Kinds of adapters that a bank holds and adamix-train does not train; those of other tools."""

from torch.nn import functional

from adamix_train.mixture.houlsby import Houlsby


class Swish(Houlsby):
    """y + up(swish(down(y))): the bottleneck of Houlsby et al. (2019) as the `adapters` library has it."""

    activation = staticmethod(functional.silu)


IMPORTED_KINDS: dict[str, type[Houlsby]] = {"swish": Swish}
"""Kind → class."""
