"""Room on the disk for what an export writes: asked for before it begins, missed when it runs out."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adamix_export.errors import ExportError
from adamix_export.text_format import size_text
from adamix_train.base_model.safetensors_header import stored_tensors, weight_files

BYTES = 4
"""Of a weight in a bundle."""
BESIDES = 16_000_000
"""Bytes for everything but the base's weights: graph, tokenizer, adapters."""


def require_room(base: Path, out: Path, *, rewritten: bool = False) -> None:
    """Raise an error if the bundle of the model in `base` will not fit where `out` is to be.

    A graph that is `rewritten` in another precision is there twice for a moment.
    """
    where = _existing(out)
    needed = bundle_size(base) * (3 if rewritten else 2) // 2
    free = shutil.disk_usage(where).free
    if free < needed:
        raise ExportError(
            f"{out} will take about {size_text(needed)}, and {where} has {size_text(free)} left: make room, or name a "
            "folder on another disk"
        )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Say of an error that names no file, which is one of writing, where it was and what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "filename", None):
            raise
        free = size_text(shutil.disk_usage(_existing(out)).free)
        raise ExportError(
            f"{out} could not be written ({error}; {free} left there): make room and try again"
        ) from error


def bundle_size(base: Path) -> int:
    """Return about how many bytes the bundle of a base takes, more rather than less."""
    tensors = dict(item for file in weight_files(base) for item in stored_tensors(file))
    return BYTES * sum(math.prod(tensor.shape) for tensor in tensors.values()) + BESIDES


def _existing(out: Path) -> Path:
    """Return the nearest folder above `out` that is there."""
    return next(folder for folder in out.absolute().parents if folder.is_dir())
