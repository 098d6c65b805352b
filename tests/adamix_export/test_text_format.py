import pytest

from adamix_export.text_format import columns, size_text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1_500, "1.5 kB"), (16_100_000, "16.1 MB"), (2_000_000_000, "2.0 GB")]
)
def test_a_size_has_its_unit(count: int, text: str) -> None:
    assert size_text(count) == text


def test_cells_of_a_column_begin_below_each_other() -> None:
    assert columns([("name", "r"), ("tone", 4), ("a", 16)]) == ["name  r", "tone  4", "a     16"]
