"""Banks of tiny adapters that generate, trained and exported once for all tests of a session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.adamix_train.conftest import writing_data
from tests.fixtures.device_seam import device_paths
from tests.fixtures.generation_banks import bank_of_writers

__all__ = ["device_paths", "writing_data"]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, writing_data: Path) -> Callable[[str], Path]:
    """Return the folder of a family: the bundle lies in `bank`, the checkpoints under the adapters' names."""

    @cache
    def make(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        bank_of_writers(family, folder, writing_data)
        return folder

    return make
