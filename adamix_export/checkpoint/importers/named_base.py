"""The base of an adapter of another tool."""

from pathlib import Path

from adamix_export.checkpoint.checkpoint import Argument
from adamix_train.base_model.locate import base_folder
from adamix_train.errors import BaseError

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
"""Files by which a folder with a tokenizer of its own is recognized."""


def named_base(argument: Argument, named: str | None, revision: str | None = None) -> Path:
    """Return the folder of the base that the user names, else of the one that the adapter names.

    Raises:
        BaseError: neither names one, or it cannot be found.
    """
    name = argument.base or named
    if not name:
        raise BaseError(f"{argument.folder} does not name its base: name it with --base")
    try:
        return base_folder(name, revision=None if argument.base else revision)
    except BaseError as error:
        if argument.base:
            raise
        raise BaseError(f"{error}; {argument.folder} names it, and --base names another place") from error


def tokenizer_folder(folder: Path, base: Path) -> Path:
    """Return the folder of the tokenizer: the adapter's if it has one, else the base's."""
    return folder if any((folder / name).is_file() for name in TOKENIZERS) else base
