"""The precisions of a bundle; a new one is an entry of the table and, if its rewrite is new, a module in this folder.

Settings depend on the kind of model. Encoders process a batch of many tokens at once; decoders one token for each
sequence, and every rounding error is fed back into the next step.

Rewrites import their modules when they are called, so that the command line can list precisions without ONNX.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adamix_export.errors import ExportError
from adamix_export.parity.bounds import Bounds

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from adamix_export.precision.calibration import CalibrationText, Statistics
    from serve.adapters.bank import Bank

    Calibrate = Callable[[Path, Sequence[CalibrationText], Bank | None], Statistics]

logger = logging.getLogger(__name__)
BLOCK_SIZE = 32
LEAST_TOKENS = 64
"""Tokens of calibration texts below which fixed scales would be guesses: ranges of one token lose the model."""
CANARY_MARGIN = 2
"""Tolerance of the canaries, as a multiple of the largest difference found by the comparison."""
FP16_WARNING = "intended for GPUs; on a CPU the results are correct, but slow"
BF16_WARNING = "for GPUs alone; compared in fp32 with every result rounded to bf16"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Rewrite and bounds of one kind of model in one precision."""

    rewrite: Callable[[Statistics, ir.Graph], None] | None
    """Applied to the traced fp32 graph, with the statistics of the calibration; None leaves the graph unchanged."""
    calibrate: Calibrate | None = None
    """Returns the rewrite's statistics from a run of the fp32 graph on calibration texts; None needs none."""
    quantizes: bool = False
    """Weights are stored as integers; an export that finds none to quantize is refused."""
    bounds: Bounds
    warning: str = ""
    """Warning logged when this precision is selected."""
    min_canary_tolerance: float = 0.0
    """Lower bound of the canaries' tolerance, for machines whose arithmetic differs from that of the export."""

    @property
    def stages(self) -> int:
        """Number of stages added to an export."""
        return int(self.rewrite is not None) + int(self.calibrate is not None)

    def canary_tolerance(self, difference: float) -> float:
        """Return the canaries' tolerance for the largest difference of a comparison; 0 is the engine's default."""
        exact = self.rewrite is None and difference <= self.bounds.tolerance
        return 0.0 if exact else max(self.min_canary_tolerance, CANARY_MARGIN * difference)


def precision_setting(precision: str, objective_name: str) -> Setting:
    """Return the setting of a precision for a training objective; raise an `ExportError` if there is none."""
    if precision not in PRECISIONS:
        raise ExportError(f"there is no precision {precision}; there are {', '.join(PRECISIONS)}")
    if objective_name not in PRECISIONS[precision]:
        fitting = ", ".join(name for name, settings in PRECISIONS.items() if objective_name in settings)
        raise ExportError(f"{precision} is not for {objective_name}: choose {fitting}")
    return PRECISIONS[precision][objective_name]


def _fp16(_: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision.fp16 import to_fp16

    to_fp16(graph)


def _fp16_for_generation(grams: Statistics, graph: ir.Graph) -> None:
    from adamix_export.passes.candidates import add_candidates
    from adamix_export.passes.default_inputs import keep_last_position
    from adamix_export.passes.likeliest_token import add_likeliest_token

    _fp16(grams, graph)
    keep_last_position(graph)
    add_likeliest_token(graph)
    add_candidates(graph)


def _bf16(_: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision.bf16 import to_bf16

    to_bf16(graph)


def _bf16_for_generation(grams: Statistics, graph: ir.Graph) -> None:
    from adamix_export.passes.default_inputs import keep_last_position
    from adamix_export.passes.likeliest_token import add_likeliest_token

    _bf16(grams, graph)
    keep_last_position(graph)
    add_likeliest_token(graph)


def _emulate_bf16(graph: ir.Graph) -> None:
    from adamix_export.precision.bf16 import emulate_bf16

    emulate_bf16(graph)


def _int8_dynamic(ranges: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision import int8_dynamic, weight_only

    weight_only.quantize({}, graph, bits=None, head_bits=None, size=BLOCK_SIZE)
    int8_dynamic.quantize(ranges, graph)


def _w8a8(ranges: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision import int8_dynamic, weight_only

    weight_only.quantize({}, graph, bits=None, head_bits=None if ranges else 8, size=BLOCK_SIZE)
    every = {name: ranges.get(name) for name in int8_dynamic.product_inputs(graph)}
    int8_dynamic.quantize(every, graph, int8_dynamic.GENERATORS)


def _choose_ranges(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> Statistics:
    from adamix_export.precision.sensitivity import choose_ranges

    return choose_ranges(file, texts, bank)


def _channel_ranges(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> Statistics:
    from adamix_export.precision.calibration import collect_channel_ranges

    if (tokens := sum(len(text.ids) for text in texts)) < LEAST_TOKENS:
        logger.warning("%d tokens are too few to calibrate on: activations are scaled by token", tokens)
        return {}
    return collect_channel_ranges(file, texts, bank)


def _activation_grams(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> Statistics:
    from adamix_export.precision.calibration import collect_activation_grams

    return collect_activation_grams(file, texts, bank)


def _int8_weights(grams: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision import weight_only

    weight_only.quantize(grams, graph, bits=8, size=BLOCK_SIZE)


def _int4_weights(grams: Statistics, graph: ir.Graph) -> None:
    from adamix_export.precision import weight_only

    weight_only.quantize(grams, graph, bits=4, size=BLOCK_SIZE)


def _int4_weights_and_fp16(grams: Statistics, graph: ir.Graph) -> None:
    _int4_weights(grams, graph)
    _fp16_for_generation(grams, graph)


def _classifiers(setting: Setting) -> Mapping[str, Setting]:
    return dict.fromkeys(("classification", "regression"), setting)


def _generators(setting: Setting) -> Mapping[str, Setting]:
    return dict.fromkeys(("generation", "sequence-to-sequence"), setting)


def _calibrated(setting: Setting, calibrate: Calibrate) -> Mapping[str, Setting]:
    """Return settings that are calibrated for a decoder alone; behind an encoder there is no calibration yet."""
    return {**_generators(setting), "generation": replace(setting, calibrate=calibrate)}


FP32_GENERATOR_TOLERANCE = 5e-4
"""Logits over a vocabulary are of the order of 10, and both sides add in different orders."""
FP32_RELATIVE = 1e-3
"""A wrong token or position changes logits by the order of their spread, rounding by a millionth of it or a few."""
PERPLEXITY_BOUNDS = Bounds(tolerance=10.0, min_agreement=0.0, max_metric_drop=0.03)
"""Bounds of w8a8 and int4, which move every logit: the perplexity decides."""
PRECISIONS: dict[str, Mapping[str, Setting]] = {
    "fp32": {
        **_classifiers(Setting(rewrite=None, bounds=Bounds(relative=FP32_RELATIVE))),
        **_generators(Setting(rewrite=None, bounds=Bounds(tolerance=FP32_GENERATOR_TOLERANCE, relative=FP32_RELATIVE))),
    },
    "fp16": {
        **_classifiers(
            Setting(
                rewrite=_fp16,
                warning=FP16_WARNING,
                bounds=Bounds(tolerance=0.05, relative=0.2, min_agreement=0.99, max_metric_drop=0.005),
                min_canary_tolerance=0.05,
            )
        ),
        **_generators(
            Setting(
                rewrite=_fp16_for_generation,
                warning=FP16_WARNING,
                bounds=Bounds(tolerance=0.5, min_agreement=0.8, max_metric_drop=0.005),
                min_canary_tolerance=0.5,
            )
        ),
    },
    "bf16": {
        **_classifiers(
            Setting(
                rewrite=_bf16,
                warning=BF16_WARNING,
                bounds=Bounds(tolerance=0.4, min_agreement=0.97, max_metric_drop=0.005),
                min_canary_tolerance=0.4,
            )
        ),
        **_generators(
            Setting(
                rewrite=_bf16_for_generation,
                warning=BF16_WARNING,
                bounds=Bounds(tolerance=2.0, min_agreement=0.6, max_metric_drop=0.01),
                min_canary_tolerance=2.0,
            )
        ),
    },
    "int8": {
        **_classifiers(
            Setting(
                rewrite=_int8_dynamic,
                calibrate=_choose_ranges,
                quantizes=True,
                bounds=Bounds(tolerance=1.0, min_agreement=0.95, max_metric_drop=0.005),
            )
        ),
        **_generators(
            Setting(
                rewrite=_int8_weights,
                quantizes=True,
                bounds=Bounds(tolerance=2.0, min_agreement=0.0, max_metric_drop=0.03),
            )
        ),
    },
    "w8a8": _calibrated(
        Setting(
            rewrite=_w8a8,
            quantizes=True,
            bounds=PERPLEXITY_BOUNDS,
        ),
        _channel_ranges,
    ),
    "int4": _calibrated(Setting(rewrite=_int4_weights, quantizes=True, bounds=PERPLEXITY_BOUNDS), _activation_grams),
    "int4-fp16": _calibrated(
        Setting(rewrite=_int4_weights_and_fp16, quantizes=True, warning=FP16_WARNING, bounds=PERPLEXITY_BOUNDS),
        _activation_grams,
    ),
}
"""Settings by precision and by training objective."""
EMULATIONS: dict[str, Callable[[ir.Graph], None]] = {"bf16": _emulate_bf16}
"""Precisions that a CPU cannot compute, with the rewrite of their graphs to fp32 with the same rounding."""
