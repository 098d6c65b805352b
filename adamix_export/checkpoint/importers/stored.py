"""Stored tensors of a checkpoint: safetensors alone, finite, and exactly those of its configuration."""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adamix_train.artifacts.checkpoint import WEIGHTS
from adamix_train.errors import CheckpointError, first_line

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types of weights that are read."""
PLACES = ("_indices", "_size")
"""Ends of parts of the names of tensors that say where weights belong, which are integers."""
SHARD = "{stem}-*-of-*.safetensors"
JOIN = (
    'join them: python -c "import glob, safetensors.torch as s; s.save_file({{k: v for f in '
    "glob.glob('{folder}/{shards}') for k, v in s.load_file(f).items()}}, '{weights}')\""
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CONVERT = (
    'where you trust the file, convert it: python -c "import torch, safetensors.torch as s; '
    "s.save_file({{k: v.clone() for k, v in torch.load('{file}', weights_only=True).items()}}, '{weights}')\""
)


def read_tensors(folder: Path, weights: str = WEIGHTS, pickle: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of the file `weights` of a checkpoint; `pickle` is the name of its form as a pickle.

    Raises:
        CheckpointError: there is no safetensors file, or it is damaged, empty, or holds a value that is not finite, or
            of another type than `TYPES`.
    """
    file = folder / weights
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {weights}" + _advice(folder, weights, pickle))
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a whole safetensors file: {first_line(error)}") from error
    if not tensors:
        raise CheckpointError(f"{file} holds no tensors: save the adapter again")
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES and not any(part.endswith(PLACES) for part in name.split(".")):
            raise CheckpointError(
                f"{name} in {file} is of type {_type(tensor.dtype)}; {', '.join(map(_type, TYPES))} are read: save the "
                "adapter again in one of them"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{name} in {file} holds values that are not finite: train again, with a lower learning rate"
            )
    return tensors


def require_all_loaded(model: PeftModel, stored: Mapping[str, Tensor], folder: Path, base: Path) -> None:
    """Raise a `CheckpointError` if the stored tensors are not exactly those of the model that was made for them."""
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    own = {name: tensor for name, tensor in model.state_dict().items() if name in stored}
    advice = (
        f"the configuration does not describe these weights, or {base} is another base than the adapter was trained "
        "on (--base names it)"
    )
    if missing := sorted(expected.keys() - stored.keys()):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} tensors of which its configuration speaks, such as {missing[0]}: {advice}"
        )
    if extra := sorted(stored.keys() - expected.keys() - own.keys()):
        raise CheckpointError(
            f"{folder} has {len(extra)} tensors that have no place in the model, such as {extra[0]}: {advice}"
        )
    for name, tensor in {**own, **expected}.items():
        if tensor.shape != stored[name].shape:
            raise CheckpointError(
                f"{name} in {folder} is {_shape(stored[name])}, and the model takes {_shape(tensor)}: {advice}"
            )


def _advice(folder: Path, weights: str, pickle: str | None) -> str:
    """Return how to get a safetensors file, if there are shards or a pickle in the folder."""
    shards = SHARD.format(stem=Path(weights).stem)
    if parts := sorted(file.name for file in folder.glob(shards)):
        named = ", ".join(parts[:3]) + (", …" if len(parts) > 3 else "")
        join = JOIN.format(folder=folder, shards=shards, weights=folder / weights)
        return f", but {len(parts)} shards of it, which are not read one by one ({named}): {join}"
    patterns = PICKLES if pickle is None else (pickle,)
    found = next((file for pattern in patterns for file in sorted(folder.glob(pattern))), None)
    if found is None:
        return ", the adapter's weights"
    return f", and {found.name} is a pickle, which is not read; " + CONVERT.format(file=found, weights=folder / weights)


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
