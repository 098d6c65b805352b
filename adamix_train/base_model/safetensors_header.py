"""Read which tensors safetensors files hold, from their headers."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from adamix_train.errors import BaseError, first_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
"""File of a model's weights, and the file that names its shards where there are several."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Location of a tensor in a safetensors file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset in the file, in bytes."""
    length: int
    """Size in bytes."""


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold a model's weights: the single one, as in transformers, or the shards.

    Raises:
        BaseError: there are none, or the index of the shards is damaged or names a file outside of the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise BaseError(f"{folder} has no {WEIGHTS}; other weight formats are pickles and are not read")
    return [folder / shard for shard in _shards(folder / INDEX)]


def _shards(index: Path) -> list[str]:
    """Return the names of the shards in an index, sorted."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise TypeError("weight_map names no files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BaseError(
            f"{index} is damaged, its weight_map does not give the file of each tensor ({first_line(error)}): get the "
            "folder again"
        ) from error
    for shard in shards:
        path = PurePath(shard)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
            raise BaseError(
                f"{index} names {shard}: only safetensors files in its own folder are read; put the shard there and "
                "name it so"
            )
    return shards


def stored_tensors(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield name and location of each tensor; raise BaseError if the file is damaged or cut short."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = dict(json.loads(stream.read(size)))
    except (OSError, struct.error, ValueError, TypeError, MemoryError, OverflowError, RecursionError) as error:
        raise BaseError(f"{file} is not a whole safetensors file: {first_line(error)}") from error
    header.pop("__metadata__", None)
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        if 8 + size + end > file.stat().st_size:
            raise BaseError(f"{file} is cut short: tensor {name} ends behind the end of the file")
        shape = tuple(entry["shape"])
        yield (
            name,
            StoredTensor(file=file, dtype=entry["dtype"], shape=shape, start=8 + size + start, length=end - start),
        )
