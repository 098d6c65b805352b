"""What every test shares. Tests fetch nothing from a hub: sample models come as packages, other bases are made here."""

import ctypes
import gc
import logging
import os
import sys
from pathlib import Path

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
    "integration/sst2/test_sst2.py",
    "demos/test_quickstart.py",
    "serve/cluster/test_ray_app.py",
    "adamix_export/tracing/test_encoder.py",
    "packaging/test_serve_alone.py",
    "adamix_export/tracing/test_last_token.py",
    "adamix_export/tracing/test_decoder.py",
    "adamix_export/checkpoint/importers/test_peft_adapter.py",
    "docs/test_blocks.py",
    "docs/test_contributing.py",
    "adamix_predict/test_ray_job.py",
    "demos/page/test_train_tab.py",
    "demos/page/test_page.py",
    "demos/page/test_training.py",
    "adamix_export/commands/test_signals.py",
    "adamix_export/tracing/test_encoder_decoder.py",
    "adamix_export/pipeline/test_export.py",
    "adamix_train/run/test_processes.py",
    "serve/cluster/test_deploy.py",
    "docs/test_readme.py",
    "demos/notebooks/test_quickstart.py",
    "adamix_export/checkpoint/importers/test_lora_options.py",
    "deploy/test_image.py",
    "reliability/test_overload.py",
    "adamix_export/pipeline/test_packing.py",
    "adamix_export/checkpoint/importers/test_approximation.py",
    "adamix_export/test_optimum_cli.py",
    "integration/serve_against_torch/test_beam_search_and_encoders.py",
    "demos/page/test_screenshots.py",
    "interop/test_lm_eval.py",
    "benchmarks/support/test_generation_sides.py",
    "serve/test_cli.py",
    "serve/generation/test_token_decoder.py",
    "serve/telemetry/test_otlp.py",
    "serve/workers/test_launch.py",
)
"""Files that take more than half a minute, the longest first; begun last, one of them would run on alone. README's
comes after the demo, whose trainings it goes on from, and packing's after the encoders, whose graphs it packs; those
that start Ray are apart."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what imports have made, and run it less often: it took a fifth of an export.

    Exports share what torch reads anew for each of them, another sixth, and leave their memory to the collector.
    """
    if "adamix_export.tracing.torch_export" in sys.modules:
        from tests.fixtures.kept_memory import keep_memory
        from tests.fixtures.torchlib import read_once

        read_once()
        keep_memory()
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
