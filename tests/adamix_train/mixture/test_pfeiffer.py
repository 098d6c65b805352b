import torch
from torch.nn import functional

from adamix_train.mixture.pfeiffer import Pfeiffer
from adamix_train.mixture.projection import linear_projection
from adamix_train.mixture.shape import AdapterShape

SHAPE = AdapterShape(in_features=6, out_features=8, r=4)


def test_pfeiffer_is_a_bottleneck_with_relu() -> None:
    adapter = Pfeiffer(SHAPE, linear_projection)
    adapter.reset_parameters()
    y = torch.randn(3, 8)
    by_hand = y + functional.relu(y @ adapter.down.weight.T) @ adapter.up.weight.T
    torch.testing.assert_close(adapter(torch.empty(3, 6), y), by_hand)
