import pytest

from adamix_export.parity.bounds import Bounds
from adamix_export.parity.report import Parity
from adamix_export.text_format import columns, parity_table, size_text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1_500, "1.5 kB"), (16_100_000, "16.1 MB"), (2_000_000_000, "2.0 GB")]
)
def test_a_size_has_its_unit(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(("bounds", "told"), [(Bounds(), False), (Bounds(min_agreement=0.97), True)])
def test_bounds_are_below_the_table_unless_results_are_exact(bounds: Bounds, told: bool) -> None:
    report = Parity(
        rows=5, data="test.csv", max_difference=0.0, equal_labels=1.0, metric="accuracy", pytorch=0.9, onnx=0.9,
        provider="CPU", bounds=bounds,
    )  # fmt: skip
    *_, last = parity_table({"tone": report}).splitlines()
    assert last.startswith("tone was held to: logits within 1e-04, at least 97% of labels equal") is told


def test_cells_of_a_column_begin_below_each_other() -> None:
    assert columns([("name", "r"), ("tone", 4), ("a", 16)]) == ["name  r", "tone  4", "a     16"]
