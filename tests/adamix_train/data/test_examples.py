import pytest

from adamix_train.data.examples import label_names
from adamix_train.errors import DataError
from tests.fixtures.example_files import one


def test_a_label_in_one_split_only_is_refused() -> None:
    both = [one("a", "x"), one("b", "y")]
    with pytest.raises(DataError, match="in the training data only: 'z'"):
        label_names([*both, one("c", "z")], both, None)
    with pytest.raises(DataError, match="in the validation data only: 'z'"):
        label_names(both, [*both, one("c", "z")], None)


def test_one_label_is_no_task() -> None:
    with pytest.raises(DataError, match="one label only, 'x'"):
        label_names([one("a", "x")], [one("b", "x")], None)
