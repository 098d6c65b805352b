"""Errors of an export, below those of training.

AdaMixError
└── ExportError      the checkpoints cannot be exported as requested
    ├── BankError    a bank cannot hold an adapter exactly
    └── ParityError  the exported graph does not reproduce PyTorch's results
"""

from adamix_train.errors import AdaMixError, first_line

__all__ = ["BankError", "ExportError", "ParityError", "first_line"]


class ExportError(AdaMixError):
    """The checkpoints cannot be exported as requested."""


class BankError(ExportError):
    """A bank cannot hold an adapter exactly."""


class ParityError(ExportError):
    """The exported graph does not reproduce PyTorch's results."""
