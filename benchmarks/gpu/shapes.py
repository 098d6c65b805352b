"""The bundles that are too large to travel: made where they run, side by side, while the tests run."""

import logging
import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
import transformers

from benchmarks.gpu.bundles import make_bundle
from benchmarks.gpu.checkpoints import make_weights
from benchmarks.gpu.models import BUNDLES, MODELS, missing_bundles
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.support.machine import usable_cores

WORKERS = 5
"""Most bundles that are made side by side, each of which takes several gigabytes of memory."""


def make_shapes(setting: Setting) -> Outcome:
    """Make the bundles that are missing; return the seconds that each took."""
    names = missing_bundles(setting)
    models = list(dict.fromkeys(BUNDLES[name].model for name in names))
    workers = max(1, min(WORKERS, usable_cores() // 2))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (max(1, usable_cores() // workers),)) as pool:
        seconds = [*_each(pool, _weights, models, setting), *_each(pool, _bundle, names, setting)]
    return Outcome(rows=[{"made": name, "seconds": took} for name, took in seconds])


def _each(
    pool: ProcessPoolExecutor, make: Callable[[str, Setting], float], names: Sequence[str], setting: Setting
) -> list[tuple[str, float]]:
    return list(zip(names, pool.map(make, names, [setting] * len(names)), strict=True))


def _begin(threads: int) -> None:
    """Prepare a worker's process."""
    torch.set_num_threads(threads)
    quieten()


def quieten() -> None:
    """Suppress what libraries say of random weights and of shapes."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("adamix_export").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="transformers|peft")


def _weights(name: str, setting: Setting) -> float:
    start = time.perf_counter()
    make_weights(MODELS[name], setting.base(name))
    return time.perf_counter() - start


def _bundle(name: str, setting: Setting) -> float:
    start = time.perf_counter()
    make_bundle(name, setting)
    return time.perf_counter() - start
