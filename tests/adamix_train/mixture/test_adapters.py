import pytest

from adamix_train.mixture.adapters import adapter_class
from adamix_train.mixture.kinds import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_table_is_a_class_with_its_sites(kind: str) -> None:
    assert adapter_class(kind).__name__.lower() == kind
    assert adapter_class(kind).sites


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown adapter kind 'prefix'; known are houlsby, lora, pfeiffer"):
        adapter_class("prefix")
