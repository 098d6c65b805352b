import pytest
import torch

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.training.unselected import freeze_unselected


@pytest.mark.parametrize("still", [True, False])
def test_unselected_modules_stay_or_move(still: bool) -> None:
    mixture = MixtureLinear(3, 4, 5, bias=True)
    for parameter in mixture.parameters():
        torch.nn.init.normal_(parameter)
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=0.1, weight_decay=0.1)
    if still:
        freeze_unselected(optimizer, mixture)
    for index in (0, 1):
        before = mixture.weight.detach().clone()
        mixture.route = (index,)
        mixture(torch.randn(2, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        moved = (mixture.weight != before).flatten(1).any(1)
        assert moved.tolist() == ([number == index for number in range(3)] if still else [True] * 3)
