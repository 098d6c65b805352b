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
    """Return the name of the checkpoint in an argument."""
    return split_argument(argument)[0]


def split_argument(argument: str) -> tuple[str, str]:
    """Return the name and the place in `[NAME=]CHECKPOINT`; the name is by default that of the folder or repository.

    An equals sign in the path of a folder that is there, or behind a slash, is a part of the place.
    """
    name, found, place = argument.partition("=")
    if found and "/" not in name and not Path(argument).is_dir():
        return name, place
    repository = argument.partition(AT)[0] if not Path(argument).is_dir() and _is_hub_id(argument) else argument
    return Path(repository).resolve().name, argument


def _is_hub_id(place: str) -> bool:
    """Return True for `ORG/NAME` and `ORG/NAME@REVISION`, unless a folder ORG is there."""
    name = place.partition(AT)[0]
    return "/" in name and is_hub_id(name)
