from pathlib import Path

import numpy as np
import pytest

from adamix_export.precision import weight_only
from adamix_export.precision.block_quantization import QuantizedBlocks
from adamix_export.precision.gptq import gptq_blocks
from tests.adamix_export.conftest import Export


@pytest.mark.slow
def test_int4_is_calibrated_on_the_texts_that_are_given(
    runs: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []

    def observed(weight: np.ndarray, gram: np.ndarray, **options: int) -> QuantizedBlocks:
        seen.append(gram)
        return gptq_blocks(weight, gram, **options)

    monkeypatch.setattr(weight_only, "gptq_blocks", observed)
    data = tmp_path / "texts.csv"
    data.write_text("input,target\n" + "".join(f"parcel {word},the parcel was {word}\n" for word in ("good", "bad")))
    export("bank", runs["generation"], precision="int4", calibration=data, again=True)
    assert len(seen) == 2 * 3
    assert all(gram.shape[0] == gram.shape[1] and np.trace(gram) > 0 for gram in seen)
    assert "name some with --calibration-data" not in caplog.text
    export("bank", runs["generation"], precision="int4", out="nearest", again=True)
    assert len(seen) == 2 * 3
    assert "name some with --calibration-data" in caplog.text
