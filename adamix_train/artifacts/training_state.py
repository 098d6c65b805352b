"""Save and load nested training state (optimizer, schedule, random generators) in a safetensors file, unpickled.

Tensors are stored as they are; the tree that held them is stored as JSON in the file's metadata.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from adamix_train.artifacts.atomic_write import atomic_file
from adamix_train.errors import CheckpointError


def save_state(state: Any, file: Path) -> None:
    """Write a tree of dicts, lists, tuples, numbers, strings, tensors and arrays to `file`, atomically.

    Raises:
        TypeError: the tree holds a value that only pickle could store.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_encode(state, tensors))
    with atomic_file(file) as partial:
        save_file(tensors, partial, metadata={"tree": tree})


def load_state(file: Path) -> Any:
    """Return the tree that `save_state` wrote; raise CheckpointError if the file is damaged."""
    try:
        with safe_open(file, framework="pt") as stored:
            return _decode(json.loads(stored.metadata()["tree"]), stored)
    except Exception as error:
        raise CheckpointError(f"{file} does not hold a training state: {error}; resume from another step") from error


def save_random_state(file: Path) -> None:
    """Write the state of Python's, NumPy's and torch's random generators to `file`."""
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    save_state(state, file)


def load_random_state(file: Path) -> None:
    """Put the random generators back into the state that `save_random_state` wrote."""
    state = load_state(file)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


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
