"""Keep nested training state (optimizer, schedule, random numbers) in a safetensors file, nothing pickled.

Tensors go into the file as they are; the tree that held them goes into its metadata as JSON.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from adamix_train.errors import CheckpointError


def save_state(state: Any, file: Path) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, tensors and arrays to `file`, whole or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    partial = file.with_name(file.name + ".partial")
    save_file(tensors, partial, metadata={"tree": tree})
    partial.replace(file)


def load_state(file: Path) -> Any:
    """Return the tree that `save_state` wrote."""
    try:
        with safe_open(file, framework="pt") as stored:
            return _decode(json.loads(stored.metadata()["tree"]), stored)
    except Exception as error:
        raise CheckpointError(f"{file} does not hold a training state: {error}; resume from another step") from error


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case torch.Tensor() | np.ndarray():
            name = str(len(tensors))
            tensors[name] = torch.as_tensor(value).detach().cpu().contiguous().clone()
            return {"array" if isinstance(value, np.ndarray) else "tensor": name}
        case dict():
            return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
        case tuple():
            return {"tuple": [_encode(item, tensors) for item in value]}
        case list():
            return [_encode(item, tensors) for item in value]
        case np.generic():
            return value.item()
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a {type(value).__name__} in the training state cannot be saved without pickling")


def _decode(value: Any, stored: Any) -> Any:
    match value:
        case {"tensor": name}:
            return stored.get_tensor(name)
        case {"array": name}:
            return stored.get_tensor(name).numpy()
        case {"dict": items}:
            return {_decode(key, stored): _decode(item, stored) for key, item in items}
        case {"tuple": items}:
            return tuple(_decode(item, stored) for item in items)
        case list():
            return [_decode(item, stored) for item in value]
    return value
