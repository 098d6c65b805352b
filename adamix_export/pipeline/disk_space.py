"""Free disk space: checked before an export, and named in the error if writing fails."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adamix_export.errors import ExportError
from adamix_export.text_format import size_text
from adamix_train.base_model.safetensors_header import stored_tensors, weight_files

BYTES_PER_WEIGHT = 4
"""Bytes of a weight in an fp32 bundle."""
OVERHEAD_BYTES = 16_000_000
"""Upper estimate of a bundle's size without the base's weights: graph, tokenizer, adapters."""


def require_disk_space(base: Path, out: Path, *, rewritten: bool = False) -> None:
    """Raise an `ExportError` if a bundle of the model in `base` will not fit on the disk of `out`.

    A graph that is `rewritten` in another precision exists twice for a moment.
    """
    where = _existing_parent(out)
    needed = bundle_size(base) * (3 if rewritten else 2) // 2
    free = shutil.disk_usage(where).free
    if free < needed:
        raise ExportError(
            f"{out} will take about {size_text(needed)}, and {where} has {size_text(free)} left: make room, or name a "
            "folder on another disk"
        )


@contextmanager
def explain_write_errors(out: Path) -> Iterator[None]:
    """Turn an error of writing below `out` that names no file into an `ExportError` with path and free space."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "filename", None):
            raise
        free = size_text(shutil.disk_usage(_existing_parent(out)).free)
        raise ExportError(
            f"{out} could not be written ({error}; {free} left there): make room and try again"
        ) from error


def bundle_size(base: Path) -> int:
    """Return an upper estimate, in bytes, of the size of a base's bundle."""
    tensors = dict(item for file in weight_files(base) for item in stored_tensors(file))
    return BYTES_PER_WEIGHT * sum(math.prod(tensor.shape) for tensor in tensors.values()) + OVERHEAD_BYTES


def _existing_parent(out: Path) -> Path:
    """Return the nearest existing folder above `out`."""
    return next(folder for folder in out.absolute().parents if folder.is_dir())
