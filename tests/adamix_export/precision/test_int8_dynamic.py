from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from adamix_export.errors import ParityError
from adamix_export.precision import int8_dynamic
from adamix_export.precision.int8_dynamic import quantize_columns
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.adamix_export.precision.matrices import matrices

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]


def test_a_row_of_int8_depends_little_on_the_rows_beside_it(
    runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs["classification"], precision="int8")
    classifier = Classifier(tmp_path / "out", provider="cpu")
    together = classifier.run([classifier.encode(text, None, truncate=True) for text in TEXTS])
    for text, answer in zip(TEXTS, together, strict=True):
        (alone,) = classifier(text)
        assert np.abs(alone.logits - answer.logits).max() <= classifier.bundle.manifest.canary_tolerance


def test_a_graph_that_loses_too_much_is_refused(
    runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, scales = quantize_columns(weight)
        return values, scales * np.float32(3)

    monkeypatch.setattr(int8_dynamic, "quantize_columns", broken)
    with pytest.raises(ParityError, match=r"logits differ by up to .* \(at least 97%\).*nothing was written"):
        export("merged", runs["classification"], precision="int8", again=True)
    assert not (tmp_path / "out").exists()


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_columns_hold_every_value_to_half_a_step(weight: np.ndarray) -> None:
    values, scales = quantize_columns(weight)
    assert np.abs(values.T * scales[:, None] - weight).max() <= scales.max() / 2 + 1e-5
