"""Rewriting of a bundle's fp32 graphs in another precision."""

import logging
from functools import partial

from adamix_export.passes.rewrite_file import rewrite_file
from adamix_export.pipeline.bundle_parts import BundleBuild, graph_edges
from adamix_export.pipeline.options import Options, Progress
from adamix_export.precision.calibration import CalibrationText, collect_activation_grams
from adamix_export.precision.table import Setting
from adamix_export.precision.weight_only import ActivationGrams
from serve.adapters.bank import Bank
from serve.bundle.adapter import read_adapter
from serve.bundle.manifest import ADAPTERS, MODEL

logger = logging.getLogger(__name__)
CALIBRATION_TEXTS = 48
"""Number of texts of a calibration, over all adapters."""


def rewrite_graphs(build: BundleBuild, setting: Setting, options: Options, progress: Progress) -> None:
    """Rewrite the graphs in `options.precision`; do nothing if this is the precision they were traced in."""
    if setting.warning:
        logger.warning("%s: %s", options.precision, setting.warning)
    if options.calibration is not None and not setting.needs_calibration:
        logger.warning("--calibration-data is not used: only int4 and int4-fp16 of a decoder alone are calibrated")
    if setting.rewrite is None:
        return
    grams: ActivationGrams = {}
    if setting.needs_calibration:
        progress("calibrating")
        grams = calibrate(build, options)
    progress(f"rewriting in {options.precision}")
    for file in build.graphs:
        rewrite_file(file, partial(setting.rewrite, grams))


def calibrate(build: BundleBuild, options: Options) -> ActivationGrams:
    """Return the activation statistics of the decoder's matrices on texts of every checkpoint, through its adapter.

    Without any texts a warning is logged and the result is empty.
    """
    count = CALIBRATION_TEXTS // len(build.checkpoints) or 1
    texts = [
        CalibrationText(ids, slot)
        for slot, checkpoint in enumerate(build.checkpoints, 1)
        for ids in build.task.calibration_texts(checkpoint, options.calibration, count)
    ]
    if not texts:
        logger.warning(
            "%s without calibration texts rounds weights to the nearest values, which loses more: name some with "
            "--calibration-data",
            options.precision,
        )
        return {}
    bank = None
    if build.shape == "bank":
        adapters = [read_adapter(build.folder / ADAPTERS / checkpoint.name) for checkpoint in build.checkpoints]
        bank = Bank(graph_edges(build.folder / MODEL)[0], adapters)
    return collect_activation_grams(build.folder / MODEL, texts, bank)
