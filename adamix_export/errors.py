"""The errors of exporting, below those of training.

AdaMixError
└── ExportError      the checkpoints cannot be exported as asked
    └── ParityError  the export does not do what PyTorch does
"""

from adamix_train.errors import AdaMixError


class ExportError(AdaMixError):
    """The checkpoints cannot be exported as asked."""


class ParityError(ExportError):
    """The export does not do what PyTorch does."""
