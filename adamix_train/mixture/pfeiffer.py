"""The bottleneck adapter with the ReLU of Pfeiffer et al. (2020), in the place where AdaMix puts its adapters."""

from torch.nn import functional

from adamix_train.mixture.houlsby import Houlsby


class Pfeiffer(Houlsby):
    """y + up(relu(down(y))): one adapter a layer, behind the feed-forward, as Pfeiffer et al. found to be enough."""

    activation = staticmethod(functional.relu)
