"""Errors that a user can act on; the commands print them as one line.

AdaMixError
├── RecipeError       a recipe or a flag says something impossible
├── DataError         a data file is missing, empty or not what the recipe says
├── BaseError         the base model is missing or not the one that was trained on
├── CheckpointError   a checkpoint is incomplete, changed, or of another kind
├── TrainingError     training cannot go on: the loss is not a number, or a device lacks something
├── MetricError       a metric needs data that is not there
└── Interrupted       the user stopped a run; a checkpoint was kept
"""

from signal import SIGINT


class AdaMixError(Exception):
    """Base of all errors; its message says what was found, what was expected and what to do, in one line."""


class RecipeError(AdaMixError):
    """A recipe or a flag says something impossible."""


class DataError(AdaMixError):
    """A data file is missing, empty or not what the recipe says."""


class BaseError(AdaMixError):
    """The base model is missing or not the one that the adapter was trained on."""


class CheckpointError(AdaMixError):
    """A checkpoint is incomplete, changed, or of another kind."""


class TrainingError(AdaMixError):
    """Training cannot go on: the loss is not a number, or a device lacks something."""


class MetricError(AdaMixError):
    """A metric needs data that is not there."""


class Interrupted(AdaMixError):
    """The user stopped a run; a checkpoint was kept."""

    def __init__(self, message: str, signal: int = SIGINT) -> None:
        super().__init__(message)
        self.signal = signal
        """Number of the signal."""


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message, or the name of its class where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error: BaseException) -> str:
    """Return the whole message of a foreign error on one line."""
    return " ".join(str(error).split())
