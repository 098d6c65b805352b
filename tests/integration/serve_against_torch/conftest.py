"""Banks of tiny adapters that generate, made and exported once for all tests of a session."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.adamix_train.conftest import writing_data
from tests.fixtures.device_seam import device_paths
from tests.fixtures.generation_banks import bank_of_writers

__all__ = ["device_paths", "writing_data"]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family: the bundle lies in `bank`, the checkpoints under the adapters' names."""
    return partial(bank_of_writers, tmp_path_factory=tmp_path_factory)
