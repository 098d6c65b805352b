"""The precisions that can be exported; a new one is a line in the table, and a file beside this one where it is new.

What is held to which bound depends on the kind of model: a batch of tokens is the fast case of an encoder, a single one
that of a decoder, whose every error is fed back to it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from adamix_export.errors import ExportError
from adamix_export.parity.comparison import Bounds
from adamix_export.precision import int8_dynamic, weight_only
from adamix_export.precision.fp16 import to_half
from adamix_export.precision.weight_only import Grams

BLOCK = 32
CANARY_MARGIN = 2
"""Tolerance of the canary rows, by the largest difference that a comparison found."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How one kind of model is written in one precision, and how far it may then be from PyTorch."""

    rewrite: Callable[[Grams, ir.Graph], None] | None
    """Applied to the graph as it was traced, in fp32, with what a calibration found; None leaves it."""
    calibrated: bool = False
    """Whether what the matrices meet on texts of the run decides how they are rounded."""
    bounds: Bounds
    remark: str = ""
    """What whoever asks for it should know."""
    least_canary: float = 0.0
    """Least tolerance of the canary rows, for machines that compute otherwise than the one of the export."""

    @property
    def stages(self) -> int:
        """Stages that it adds to an export: the graph is rewritten, and before that calibrated."""
        return int(self.rewrite is not None) + int(self.calibrated)

    def canary_tolerance(self, found: float) -> float:
        """Return the tolerance of canary rows when a comparison found a difference; exact graphs have the engine's."""
        return 0.0 if self.rewrite is None else max(self.least_canary, CANARY_MARGIN * found)


def setting_of(precision: str, learned: str) -> Setting:
    """Return the setting of a precision for what was learned, or an error that lists those there are."""
    if precision not in PRECISIONS:
        raise ExportError(f"there is no precision {precision}; there are {', '.join(PRECISIONS)}")
    if learned not in PRECISIONS[precision]:
        fitting = ", ".join(name for name, kinds in PRECISIONS.items() if learned in kinds)
        raise ExportError(f"{precision} is not for {learned}: choose {fitting}")
    return PRECISIONS[precision][learned]


HALF = "made for GPUs, and not yet run on one here; a processor answers right and slowly"


def _half(_: Grams, graph: ir.Graph) -> None:
    to_half(graph)


four_bits = partial(weight_only.quantise, bits=4, size=BLOCK)


def _four_bits_and_half(grams: Grams, graph: ir.Graph) -> None:
    four_bits(grams, graph)
    to_half(graph)


def _int8_states(_: Grams, graph: ir.Graph) -> None:
    weight_only.quantise({}, graph, bits=None, size=BLOCK)
    int8_dynamic.quantise_attention(graph)
    int8_dynamic.quantise_products(graph)


def _encoders(setting: Setting) -> dict[str, Setting]:
    return dict.fromkeys(("classification", "regression"), setting)


def _writers(setting: Setting) -> dict[str, Setting]:
    return dict.fromkeys(("generation", "sequence-to-sequence"), setting)


EXACT = Setting(rewrite=None, bounds=Bounds())
EXACT_WRITER = Setting(rewrite=None, bounds=Bounds(tolerance=5e-4))
"""Logits of a vocabulary are tens, of which fp32 keeps a few millionths, and the two sides add in other orders."""
FOUR_BITS = Bounds(tolerance=10.0, least_equal=0.0, most_lost=0.03)
PRECISIONS: dict[str, dict[str, Setting]] = {
    "fp32": _encoders(EXACT) | _writers(EXACT_WRITER),
    "fp16": _encoders(
        Setting(
            rewrite=_half,
            remark=HALF,
            bounds=Bounds(tolerance=0.05, least_equal=0.99, most_lost=0.005),
            least_canary=0.05,
        )
    )
    | _writers(
        Setting(
            rewrite=_half,
            remark=HALF,
            bounds=Bounds(tolerance=0.5, least_equal=0.8, most_lost=0.005),
            least_canary=0.5,
        )
    ),
    "int8": _encoders(Setting(rewrite=_int8_states, bounds=Bounds(tolerance=1.0, least_equal=0.97, most_lost=0.005)))
    | _writers(
        Setting(
            rewrite=partial(weight_only.quantise, bits=8, size=BLOCK),
            bounds=Bounds(tolerance=2.0, least_equal=0.0, most_lost=0.03),
        )
    ),
    "int4": _writers(Setting(rewrite=four_bits, calibrated=True, bounds=FOUR_BITS)),
    "int4-fp16": _writers(Setting(rewrite=_four_bits_and_half, calibrated=True, remark=HALF, bounds=FOUR_BITS)),
}
"""By the name of the precision and by what was learned."""
