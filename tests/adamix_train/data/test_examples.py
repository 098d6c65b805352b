import pytest

from adamix_train.data.examples import label_names, warn_of_rare_labels
from adamix_train.errors import DataError
from tests.fixtures.example_files import one


def test_a_label_that_cannot_be_learned_is_refused() -> None:
    both = [one("a", "x"), one("b", "y")]
    with pytest.raises(DataError, match="in the validation data and not in the training data: 'z'"):
        label_names(both, [*both, one("c", "z")], None)


def test_a_label_that_is_not_validated_is_learned_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    both = [one("a", "x"), one("b", "y")]
    labels = label_names([*both, one("c", "z")], both, None)
    assert labels == ["x", "y", "z"]
    warn_of_rare_labels([*both, one("c", "z")], both, labels)
    assert caplog.messages == ["no validation example for 1 labels, which do not count in choosing a checkpoint: 'z'"]


def test_one_label_is_no_task() -> None:
    with pytest.raises(DataError, match="one label only, 'x'"):
        label_names([one("a", "x")], [one("b", "x")], None)
