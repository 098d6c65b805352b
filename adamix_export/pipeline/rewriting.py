"""Rewriting of a bundle's fp32 graphs in another precision."""

import logging
from dataclasses import replace
from functools import partial

from adamix_export.errors import ExportError
from adamix_export.passes.matrices import SMALLEST
from adamix_export.passes.quantized_share import quantized_share
from adamix_export.passes.rewrite_file import rewrite_file
from adamix_export.pipeline.bundle_parts import BundleBuild, graph_edges
from adamix_export.pipeline.memory import release_memory
from adamix_export.pipeline.options import Options, Progress
from adamix_export.precision.calibration import CalibrationText, Statistics
from adamix_export.precision.table import Setting
from serve.adapters.bank import Bank
from serve.bundle.adapter import read_adapter
from serve.bundle.manifest import ADAPTERS, MODEL

logger = logging.getLogger(__name__)
CALIBRATION_TEXTS = 48
"""Number of texts of a calibration, over all adapters."""


def rewrite_graphs(build: BundleBuild, setting: Setting, options: Options, progress: Progress) -> float:
    """Rewrite the graphs in `options.precision`; do nothing if this is the precision they were traced in.

    Returns:
        Share of the matrices' values that are stored as integers.

    Raises:
        ExportError: The precision quantizes, and no matrix is large enough.
    """
    if setting.warning:
        logger.warning("%s: %s", options.precision, setting.warning)
    if options.calibration is not None and setting.calibrate is None:
        logger.warning(
            "--calibration-data is not used: only int8 of classifiers, and w8a8, int4 and int4-fp16 of a decoder "
            "alone, are calibrated"
        )
    if setting.rewrite is None:
        return 0.0
    statistics: Statistics = {}
    if setting.calibrate is not None and (texts := calibration_texts(build, options)):
        progress("calibrating")
        statistics = setting.calibrate(build.folder / MODEL, texts, _bank(build))
        release_memory()
    progress(f"rewriting in {options.precision}")
    for file in build.graphs:
        rewrite_file(file, partial(setting.rewrite, statistics))
    share = quantized_share(build.graphs)
    if setting.quantizes and not share:
        raise ExportError(
            f"{options.precision} quantizes matrices with sides of at least {SMALLEST}, and the base has none: export "
            "it in fp32"
        )
    return share


def calibration_texts(build: BundleBuild, options: Options) -> list[CalibrationText]:
    """Return texts of every checkpoint, each with its adapter's slot; without any a warning is logged."""
    count = CALIBRATION_TEXTS // len(build.checkpoints) or 1
    texts = [
        replace(text, slot=slot)
        for slot, checkpoint in enumerate(build.checkpoints, 1)
        for text in build.task.calibration_texts(checkpoint, options.calibration, count)
    ]
    if not texts:
        logger.warning(
            "%s without calibration texts loses more: name some with --calibration-data",
            options.precision,
        )
    return texts


def _bank(build: BundleBuild) -> Bank | None:
    if build.shape != "bank":
        return None
    adapters = [read_adapter(build.folder / ADAPTERS / checkpoint.name) for checkpoint in build.checkpoints]
    return Bank(graph_edges(build.folder / MODEL)[0], adapters)
