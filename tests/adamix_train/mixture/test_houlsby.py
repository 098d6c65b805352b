from dataclasses import replace

import torch

from adamix_train.mixture.houlsby import Houlsby
from adamix_train.mixture.projection import linear_projection
from adamix_train.mixture.shape import AdapterShape

SHAPE = AdapterShape(in_features=6, out_features=8, r=4)


def test_near_identity_starts_nearer_to_the_identity_than_the_original() -> None:
    y = torch.randn(100, 8)
    change = {}
    for near in (False, True):
        torch.manual_seed(0)
        adapter = Houlsby(replace(SHAPE, near_identity=near), linear_projection)
        adapter.reset_parameters()
        change[near] = (adapter(y, y) - y).abs().mean()
    assert 0 < change[True] < change[False] / 50
