"""Find the folder of a checkpoint: one on this machine, or a repository of the Hugging Face Hub."""

from pathlib import Path

from adamix_train.base_model.locate import hub_folder, is_hub_id
from adamix_train.errors import BaseError, CheckpointError

AT = "@"
"""Between a Hub id and its revision."""


def checkpoint_folder(place: str) -> Path:
    """Return the folder `place`, or the snapshot of the Hub id `ORG/NAME` or `ORG/NAME@REVISION`.

    A name below a folder that is there is never looked up on the Hub. A download is announced with a warning, and takes
    no pickles.

    Raises:
        CheckpointError: it is neither a folder nor available from the Hub.
    """
    folder = Path(place)
    if folder.is_dir():
        return folder
    if not _is_hub_id(place):
        raise CheckpointError(f"there is no checkpoint folder {place}")
    name, _, revision = place.partition(AT)
    try:
        return hub_folder(name, "checkpoint", revision=revision or None)
    except BaseError as error:
        raise CheckpointError(str(error)) from error


def adapter_name(argument: str) -> str:
    """Return the name in `[NAME=]CHECKPOINT`, or that of the folder or of the Hub's repository."""
    name, found, _ = argument.partition("=")
    if found:
        return name
    place = argument.partition(AT)[0] if not Path(argument).is_dir() and _is_hub_id(argument) else argument
    return Path(place).resolve().name


def _is_hub_id(place: str) -> bool:
    """Return True for `ORG/NAME` and `ORG/NAME@REVISION`, unless a folder ORG is there."""
    name = place.partition(AT)[0]
    return "/" in name and is_hub_id(name)
