"""Errors of an export, below those of training.

AdaMixError
└── ExportError      the checkpoints cannot be exported as requested
    └── ParityError  the exported graph does not reproduce PyTorch's results
"""

from adamix_train.errors import AdaMixError, first_line

__all__ = ["ExportError", "ParityError", "first_line"]


class ExportError(AdaMixError):
    """The checkpoints cannot be exported as requested."""


class ParityError(ExportError):
    """The exported graph does not reproduce PyTorch's results."""
