"""Find the folder of a base model."""

import logging
from pathlib import Path

from huggingface_hub import snapshot_download

from adamix_train.base_model.load import _line
from adamix_train.errors import BaseError

logger = logging.getLogger(__name__)
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
"""What is fetched of a hub repository, its card with the licence included: never a pickle."""


def base_folder(name: str) -> Path:
    """Return the folder of a base model: `name` itself, or the local snapshot of a hub id (downloaded if need be)."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseError(f"{folder} is not a model folder: it has no config.json")
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise BaseError(f"there is no base model folder {name}; give a folder or a hub id such as org/model")
    logger.info("looking up base model %s on the hub", name)
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:
        raise BaseError(f"base model {name} is neither a folder nor to be had from the hub: {_line(error)}") from error
