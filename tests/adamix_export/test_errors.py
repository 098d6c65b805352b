import adamix_train.errors
from adamix_export.errors import ExportError, ParityError, first_line
from adamix_train.errors import AdaMixError


def test_whoever_catches_trainings_errors_catches_an_exports() -> None:
    assert ParityError.__mro__[1:3] == (ExportError, AdaMixError)


def test_the_first_line_of_a_foreign_error_is_trainings() -> None:
    assert first_line is adamix_train.errors.first_line
