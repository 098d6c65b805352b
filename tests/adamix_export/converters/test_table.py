import pytest

from adamix_export.converters.table import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_format_has_a_writer_and_a_mark(name: str) -> None:
    module = TARGETS[name].load()
    assert callable(getattr(module, TARGETS[name].writer))
    assert isinstance(module.MARK, str)
