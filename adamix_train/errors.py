"""The errors a user can do something about; the commands print them as one line.

AdaMixError
├── RecipeError       a recipe or a flag says something impossible
├── DataError         a data file is missing, empty or not what the recipe says
├── BaseError         the base model is missing or not the one that was trained on
└── CheckpointError   a checkpoint is incomplete, changed, or of another kind
"""


class AdaMixError(Exception):
    """What was found, what was expected, and what to do, in one line."""


class RecipeError(AdaMixError):
    """A recipe or a flag says something impossible."""


class DataError(AdaMixError):
    """A data file is missing, empty or not what the recipe says."""


class BaseError(AdaMixError):
    """The base model is missing or not the one that the adapter was trained on."""


class CheckpointError(AdaMixError):
    """A checkpoint is incomplete, changed, or of another kind."""
