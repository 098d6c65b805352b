import re

import pytest

from adamix_train import errors
from adamix_train.errors import AdaMixError, first_line, one_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n  first  \nsecond\n"), "first  "),
        (ValueError(""), "ValueError"),
        (KeyboardInterrupt(" \n "), "KeyboardInterrupt"),
    ],
)
def test_the_first_line_is_the_messages_or_the_name_of_the_class(error: BaseException, expected: str) -> None:
    assert first_line(error) == expected


def test_a_whole_message_fits_on_one_line() -> None:
    assert (
        one_line(ValueError("\nsize mismatch:\n\tfound 3,\r\n  expected 4\n")) == "size mismatch: found 3, expected 4"
    )


def test_the_tree_in_the_docstring_names_every_error() -> None:
    drawn = set(re.findall(r"─ (\w+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in AdaMixError.__subclasses__() if kind.__module__ == errors.__name__}
