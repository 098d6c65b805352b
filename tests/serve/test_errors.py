import pytest

from serve.errors import GenerationFailed, InputError, as_serve_error, first_line, shortened


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one  "),
        (ValueError(), "ValueError"),
        (ValueError("  "), "ValueError"),
        ("one\ntwo", "one"),
        ("", "no reason given"),
    ],
)
def test_the_first_line_of_an_error_is_its_message_or_its_class(error: Exception | str, line: str) -> None:
    assert first_line(error) == line


def test_a_long_text_is_shortened() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "abc…")


def test_an_error_of_serving_stays_and_any_other_becomes_a_cause() -> None:
    own, foreign = InputError("own"), ValueError("first\nsecond")
    assert as_serve_error(own, GenerationFailed, "failed") is own
    made = as_serve_error(foreign, GenerationFailed, "it failed")
    assert isinstance(made, GenerationFailed)
    assert (str(made), made.__cause__) == ("it failed: first", foreign)
