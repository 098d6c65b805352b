import pytest

from adamix_export.pipeline.record_fields import MOST_FIELDS, fields_of


def test_fields_are_in_the_order_of_their_first_appearance() -> None:
    texts = ["kind[quiz night], price[£2]", "name[Muddy Boots], kind[nature club]", "customer rating[5 out of 5]"]
    assert fields_of(texts) == ["kind", "price", "name", "customer rating"]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["kind[quiz night]", "a sentence"],
        ["see [1] and kind[quiz night]"],
        [", ".join(f"f{number}[x]" for number in range(MOST_FIELDS + 1))],
    ],
)
def test_other_texts_have_none(texts: list[str]) -> None:
    assert fields_of(texts) == []
