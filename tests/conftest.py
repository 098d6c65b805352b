"""What every test shares. Tests fetch nothing from a hub: sample models come as packages, other bases are made here."""

import ctypes
import logging
import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and say so."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("no NVIDIA GPU on this machine: the GPU path has not run")


@pytest.fixture(autouse=True)
def _restored_log_levels() -> Iterator[None]:
    """Undo the levels that a command sets for its process, or a later test would not see the warnings it looks for."""
    levels = {name: logging.getLogger(name).level for name in ("", "adamix_train", "adamix_export", "serve")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def has_gpu() -> bool:
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False
