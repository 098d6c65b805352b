"""Errors of an export, below those of training.

AdaMixError
└── ExportError      the checkpoints cannot be exported as requested
    └── ParityError  the exported graph does not reproduce PyTorch's results
"""

from adamix_train.errors import AdaMixError


class ExportError(AdaMixError):
    """The checkpoints cannot be exported as requested."""


class ParityError(ExportError):
    """The exported graph does not reproduce PyTorch's results."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
