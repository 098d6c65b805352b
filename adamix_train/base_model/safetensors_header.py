"""Read which tensors safetensors files hold, from their headers."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamix_train.errors import BaseError, first_line


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
    """Return the safetensors files that hold a model's weights; raise BaseError if there are none."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    if not (folder / "model.safetensors").is_file():
        raise BaseError(f"{folder} has no model.safetensors; other weight formats are pickles and are not read")
    return [folder / "model.safetensors"]


def stored_tensors(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield name and location of each tensor; raise BaseError if the file is damaged or cut short."""
    try:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(size))
    except (OSError, struct.error, ValueError, MemoryError, OverflowError) as error:
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
