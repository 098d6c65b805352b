from pathlib import Path

import pytest

import adamix_train.mixture
from adamix_train.mixture.adapters import make_adapter
from adamix_train.mixture.kinds import KINDS
from adamix_train.mixture.projection import linear_projection
from adamix_train.mixture.shape import AdapterShape

SHAPE = AdapterShape(in_features=3, out_features=4, r=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_a_file_of_its_own_beside_the_table(kind: str) -> None:
    (folder,) = adamix_train.mixture.__path__
    module = KINDS[kind].partition(":")[0]
    assert module == f"adamix_train.mixture.{kind}"
    assert (Path(folder) / f"{kind}.py").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_makes_its_projections_with_the_factory_it_is_given(kind: str) -> None:
    made: dict[str, object] = {}

    def projection(name: str, in_features: int, out_features: int, *, bias: bool) -> object:
        made[name] = linear_projection(name, in_features, out_features, bias=bias)
        return made[name]

    adapter = make_adapter(kind, SHAPE, projection)
    assert made == {"down": adapter.down, "up": adapter.up}
