"""SHA-256 of a base model's weights and configuration."""

import hashlib
import json
from pathlib import Path

from adamix_train.base_model.safetensors_header import stored_tensors, weight_files
from adamix_train.errors import BaseError, first_line

IGNORED_FIELDS = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
"""Fields of config.json that depend on who saved the model and how, not on the model."""
CHUNK = 1 << 24
"""Bytes read at once."""


def base_sha256(folder: Path) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every weight, in the order of names.

    It does not depend on how the tensors are split over files, nor on any other file of the folder.

    Raises:
        BaseError: there are no safetensors files, or one of them is damaged.
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
    """Return the SHA-256 of config.json without IGNORED_FIELDS.

    Raises:
        BaseError: the file is missing or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        content = {name: value for name, value in config.items() if name not in IGNORED_FIELDS}
    except (OSError, ValueError, AttributeError) as error:
        raise BaseError(f"{folder / 'config.json'} is damaged: {first_line(error)}") from error
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
