import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from adamix_export.parity.bounds import Bounds, Check
from adamix_export.precision.table import PERPLEXITY_BOUNDS

EXPORT = Path(__file__).parents[3] / "docs" / "export.md"


def test_a_check_without_bounds_has_those_that_the_page_names_for_fp32() -> None:
    stated = re.search(r"\| `fp32` \| everything \| logits within (\S+) \(.*every label and greedy", EXPORT.read_text())
    assert stated is not None
    assert Check().bounds == Bounds(tolerance=float(stated[1]), min_agreement=1.0, max_metric_drop=None)


def test_bounds_that_precisions_share_cannot_be_widened_for_one() -> None:
    with pytest.raises(FrozenInstanceError):
        PERPLEXITY_BOUNDS.tolerance = 20.0  # type: ignore[misc]
