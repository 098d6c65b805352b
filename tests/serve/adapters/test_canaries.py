from dataclasses import replace

import numpy as np
import pytest

from serve.adapters.canaries import (
    CLASSIFICATION_TOLERANCE,
    GENERATION_TOLERANCE,
    canary_tolerance,
    compare_canaries,
)
from serve.bundle.manifest import Manifest
from serve.errors import BundleError
from tests.serve.conftest import card

MANIFEST = Manifest(
    task="text-classification",
    shape="bank",
    precision="fp32",
    base={},
    pad_token_id=0,
    adapters=[],
    inputs=[],
    outputs=[],
    parity={},
    versions={},
)
CARD = replace(card("tone"), canary_logits=[[0.5, -1.0], [2.0, 0.25]])


def found(*, off_by: float = 0.0) -> list[np.ndarray]:
    """The card's logits, one of them changed."""
    rows = [np.array(row, np.float32) for row in CARD.canary_logits]
    rows[1][0] += off_by
    return rows


@pytest.mark.parametrize("off_by", [0.0, 0.9 * CLASSIFICATION_TOLERANCE])
def test_logits_within_the_tolerance_pass(off_by: float) -> None:
    compare_canaries(CARD, found(off_by=off_by), MANIFEST)


@pytest.mark.parametrize("off_by", [2 * CLASSIFICATION_TOLERANCE, float("nan"), float("inf")])
def test_one_logit_beyond_the_tolerance_is_refused(off_by: float) -> None:
    with pytest.raises(BundleError, match="adapter tone does not give the logits that it gave in PyTorch"):
        compare_canaries(CARD, found(off_by=off_by), MANIFEST)


def test_another_number_of_labels_is_refused() -> None:
    with pytest.raises(BundleError, match="adapter tone"):
        compare_canaries(CARD, [row[:1] for row in found()], MANIFEST)


def test_the_tolerance_is_the_engines_or_the_bundles_if_that_is_larger() -> None:
    assert canary_tolerance(CARD, MANIFEST) == CLASSIFICATION_TOLERANCE
    assert canary_tolerance(replace(CARD, canary_tokens=[[1]]), MANIFEST) == GENERATION_TOLERANCE
    assert canary_tolerance(CARD, replace(MANIFEST, canary_tolerance=0.5)) == 0.5
    assert canary_tolerance(CARD, replace(MANIFEST, canary_tolerance=1e-9)) == CLASSIFICATION_TOLERANCE
