"""Find the folder of a base model."""

import logging
from pathlib import Path

from adamix_train.errors import BaseError, first_line

CONFIGS = ("config.json", "adapter_config.json")
"""Files of which a repository of a model or of an adapter has one."""
logger = logging.getLogger(__name__)
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
"""Files downloaded from a Hub repository: safetensors only, never a pickle, and the model card for its licence."""


def base_folder(name: str, *, revision: str | None = None) -> Path:
    """Return the folder of a base model: `name` itself, or the snapshot of a Hub id, downloaded unless cached.

    A download is announced with a warning. `revision` is a branch, tag or commit of the Hub's repository.

    Raises:
        BaseError: `name` is neither a model folder nor available from the Hub.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseError(f"{folder} is not a model folder: it has no config.json")
        return folder
    if not is_hub_id(name):
        raise BaseError(f"there is no base model folder {name}; give a folder or a Hub id such as org/model")
    return hub_folder(name, "base model", revision=revision)


def is_hub_id(name: str) -> bool:
    """Return True for `NAME` and `ORG/NAME`, unless a folder ORG is there: a name in it is no id of the Hub."""
    org, slash, rest = name.partition("/")
    if not slash:
        return bool(name) and not name.startswith((".", "~"))
    return bool(org and rest) and "/" not in rest and not org.startswith((".", "~")) and not Path(org).exists()


def hub_folder(name: str, what: str, *, revision: str | None = None) -> Path:
    """Return the snapshot of the Hub id `name`, downloaded unless it is cached; errors call it `what`.

    Raises:
        BaseError: it is not available from the Hub.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    try:
        if not any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in CONFIGS):
            logger.warning("%s %s is not on this machine: looking it up on the Hub to download it", what, name)
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except Exception as error:
        raise BaseError(f"{what} {name} is neither a folder nor available from the Hub: {first_line(error)}") from error
