"""The sha256 of a base model's weights and configuration."""

import hashlib
import json
from pathlib import Path

from adamix_train.base_model.load import CHUNK, PASSING, _line
from adamix_train.base_model.safetensors_header import stored_tensors, weight_files
from adamix_train.errors import BaseError


def base_sha256(folder: Path) -> str:
    """Return the sha256 of a base's weights: over name, dtype, shape and bytes of each tensor in the order of names.

    It does not depend on how the tensors are split over files, nor on any other file of the folder.
    """
    digest = hashlib.sha256()
    tensors = dict(item for file in weight_files(folder) for item in stored_tensors(file))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tensor.shape}\0".encode())
        with tensor.file.open("rb") as stream:
            stream.seek(tensor.start)
            for begin in range(0, tensor.length, CHUNK):
                digest.update(stream.read(min(CHUNK, tensor.length - begin)))
    return digest.hexdigest()


def config_sha256(folder: Path) -> str:
    """Return the sha256 of what a base's config.json says of the model: not by whom and with what it was saved."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        content = {name: value for name, value in config.items() if name not in PASSING}
    except (OSError, ValueError, AttributeError) as error:
        raise BaseError(f"{folder / 'config.json'} is damaged: {_line(error)}") from error
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
