"""Data sets and base models that are not part of the repository.

Data sets are in the folder ADAMIX_DATA (default: ../shared/data).
"""

import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.support.errors import BenchmarkError
from demos.models import sample_model

DATA = Path(os.environ.get("ADAMIX_DATA", "../shared/data"))


def data_file(name: str) -> Path:
    """Return a file below the data folder; raise a BenchmarkError if it is not there."""
    file = DATA / name
    if not file.is_file():
        raise BenchmarkError(f"{file} is missing: set ADAMIX_DATA to the folder that has it")
    return file


def base_models(samples: Mapping[str, str]) -> dict[str, Path]:
    """Return the folders of sample models, keys of `demos.models`, by what they are for.

    Raises:
        BenchmarkError: One cannot be had.
    """
    try:
        return {name: sample_model(sample) for name, sample in samples.items()}
    except Exception as error:
        raise BenchmarkError(f"the base models are not to be had: {error}") from error
