"""The form of each product: as fast as the loss on calibration texts allows.

All products are quantized first, with fixed scales wherever there are some. If the logits then differ too much from
those in fp32, outputs that are not normalized are scaled by token. If that is not enough, each product is quantized
alone, and those that lose the most stay in fp32: as few as hold the loss.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir

from adamix_export.passes.matrices import Array
from adamix_export.passes.rewrite_file import derive_file
from adamix_export.precision.calibration import CalibrationText, collect_channel_ranges, run_texts
from adamix_export.precision.int8_dynamic import ATTENTIONS, GELUS, ChannelRanges, quantize, scaled_by_token
from serve.adapters.bank import Bank
from serve.bundle.graph_io import LOGITS
from serve.runtime.providers import CPU, ProviderChoice
from serve.runtime.session import open_session

BY_TOKEN = ((), GELUS, (*GELUS, *ATTENTIONS))
"""Operators whose outputs are scaled by token: the trials, the fastest graph first."""
MAX_LOSS = 0.03
"""Largest accepted loss of the logits by quantized products."""
TINY = 1e-30
RANKING_TEXTS = 12
"""Texts of each adapter on which products are quantized alone."""


def choose_ranges(file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> ChannelRanges:
    """Return the channel ranges of the products to quantize in the fp32 graph of a classifier.

    A product whose input is to be scaled by token has None in place of its ranges.

    The loss is the root mean square of the logits' differences from fp32, relative to their spread over the texts of
    an adapter; that of the adapter that loses the most counts. At most half of the products stay in fp32.
    """
    measured, graph = collect_channel_ranges(file, texts, bank), ir.load(file).graph
    ranges: ChannelRanges = measured
    loss = _Loss(file, texts, bank)
    for ranges in _different(scaled_by_token(measured, graph, operators) for operators in BY_TOKEN):
        if not ranges or loss.of(ranges) <= MAX_LOSS:
            return ranges
    ranking = _Loss(file, _first_of_each(texts), bank)
    alone = {name: ranking.of({name: ranges[name]}) for name in ranges}
    order = sorted(ranges, key=lambda name: -alone[name])
    for count in _counts(len(order)):
        chosen = {name: ranges[name] for name in order[count:]}
        if loss.of(chosen) <= MAX_LOSS:
            break
    return chosen


class _Loss:
    """The loss of quantized products on texts."""

    def __init__(self, file: Path, texts: Sequence[CalibrationText], bank: Bank | None) -> None:
        self.file, self.texts, self.bank = file, texts, bank
        self.exact = self._logits(file)

    def of(self, ranges: ChannelRanges) -> float:
        """Return the loss if the products of `ranges` are quantized, and no others."""
        trial = self.file.with_name(f"trial.{self.file.name}")
        try:
            derive_file(self.file, partial(quantize, ranges), trial)
            found = self._logits(trial)
        finally:
            trial.unlink(missing_ok=True)
        return max(_relative_loss(found[slot], self.exact[slot]) for slot in found)

    def _logits(self, file: Path) -> dict[int, Array]:
        """Return the logits (texts, labels) of each slot's texts."""
        session = open_session(file, ProviderChoice(CPU, "to measure a loss"))
        slots = [text.slot for text in self.texts]
        rows = [found[0] for found in run_texts(session, [LOGITS], self.texts, self.bank)]
        return {
            slot: np.concatenate([row for row, own in zip(rows, slots, strict=True) if own == slot])
            for slot in set(slots)
        }


def _different(trials: Iterable[ChannelRanges]) -> Iterable[ChannelRanges]:
    """Return trials without those that scale the same products by token as one before them."""
    found = {frozenset(name for name, channels in ranges.items() if channels is None): ranges for ranges in trials}
    return found.values()


def _relative_loss(found: Array, exact: Array) -> float:
    spread = float(np.square(exact - exact.mean(0)).mean())
    lost = float(np.square(found - exact).mean())
    return (lost / max(spread, TINY)) ** 0.5


def _first_of_each(texts: Sequence[CalibrationText]) -> list[CalibrationText]:
    """Return the first texts of every adapter."""
    ordered = sorted(texts, key=lambda text: text.slot)
    return [text for _, own in groupby(ordered, lambda text: text.slot) for text in list(own)[:RANKING_TEXTS]]


def _counts(products: int) -> list[int]:
    """Return the numbers of products to keep in fp32 that are tried: 1, 2, 3, 4, 6, 8, 12, …, half of them."""
    powers = [2**index for index in range(products.bit_length())]
    middles = [low + (high - low) // 2 for low, high in pairwise(powers)]
    return sorted({count for count in (*powers, *middles, products // 2) if 0 < count <= max(1, products // 2)})
