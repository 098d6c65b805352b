"""Canary rows: inputs whose logits an adapter's card keeps as PyTorch computed them.

Wherever an adapter is loaded, its canary rows run and are compared. That proves that this adapter answers, and not the
base model or another adapter.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve.bundle.adapter import AdapterCard
from serve.bundle.manifest import Manifest
from serve.errors import BundleError

CLASSIFICATION_TOLERANCE = 1e-3
GENERATION_TOLERANCE = 1e-2
"""Largest allowed difference of a canary logit from PyTorch's, on any provider, in fp32."""


def canary_tolerance(card: AdapterCard, manifest: Manifest) -> float:
    """Return the largest allowed difference of a canary logit: the engine's own, or the bundle's if that is larger."""
    own = GENERATION_TOLERANCE if card.canary_tokens else CLASSIFICATION_TOLERANCE
    return max(own, manifest.canary_tolerance)


def compare_canaries(card: AdapterCard, found: Sequence[NDArray[np.float32]], manifest: Manifest) -> None:
    """Compare the logits of an adapter's canary rows with those that its card keeps.

    Args:
        card: The adapter's card.
        found: For each canary row the logits (labels,), or of a generator those of its canary tokens (tokens,).
        manifest: The bundle's manifest, which may allow a larger difference.

    Raises:
        BundleError: A row has another number of logits, or one differs by more than the tolerance.
    """
    tolerance = canary_tolerance(card, manifest)
    for row, expected in zip(found, card.canary_logits, strict=True):
        if row.shape != (len(expected),) or not np.allclose(row, expected, rtol=0, atol=tolerance):
            raise BundleError(
                f"adapter {card.name} does not give the logits that it gave in PyTorch on its canary rows "
                f"(within {tolerance:g}): it is not served; export it again"
            )
