"""What every test shares. Tests fetch nothing from a hub: sample models come as packages, other bases are made here."""

import ctypes
import gc
import logging
import os

import pytest
from hypothesis import settings

settings.register_profile("adamix", deadline=None)  # machines that others use as well are slow now and then
settings.load_profile("adamix")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and say so."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("no NVIDIA GPU on this machine: the GPU path has not run")


LONGEST = (
    "test_sst2.py",
    "test_readme.py",
    "test_serve_alone.py",
    "test_quickstart.py",
    "test_image.py",
    "test_last_token.py",
    "test_encoder.py",
    "test_encoder_decoder.py",
    "test_blocks.py",
    "test_contributing.py",
    "test_decoder.py",
    "test_export.py",
)
"""Files that take more than a minute, the longest first; begun last, one of them would run on alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what imports have made, and run it less often: it took a fifth of an export."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


LOG_LEVELS = {name: logging.getLogger(name).level for name in ("", "adamix_train", "adamix_export", "serve")}
"""Levels before any test."""


@pytest.fixture(autouse=True)
def _log_levels() -> None:
    """Undo the levels that a command has set for its process, or a test would not see the warnings it looks for."""
    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def has_gpu() -> bool:
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0) == 0
    except OSError:
        return False
