from pathlib import Path

import numpy as np
import pytest

from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.limits import GenerationLimits
from serve.runtime.providers import CUDA
from serve.sampling_params import SamplingParams
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]


def test_what_is_not_yet_known_of_fp16_is_said(
    runs: dict[str, Path], export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    export("merged", runs["classification"], precision="fp16", fresh=True)
    assert "fp16: intended for GPUs and not yet tested on one" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_fp16_on_a_gpu_answers_as_fp32_on_a_processor(
    shape: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export(shape, runs["classification"], precision="fp16")
    export(shape, runs["classification"], out="exact")
    found = Classifier(tmp_path / "out", provider="cuda")(TEXTS)
    for one, other in zip(found, Classifier(tmp_path / "exact", provider="cpu")(TEXTS), strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "int4-fp16"])
def test_a_gpu_writes_what_a_processor_writes_of_the_same_bundle(
    precision: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    """Rows that join, move and leave in the memory of the device."""
    export("bank", runs["generation"], precision=precision)
    texts = ["good", "the parcel was bad", "my shop", "a", "it was a fine shop"]
    sampling = SamplingParams(max_new_tokens=6)
    gpu, processor = (
        Generator(tmp_path / "out", provider=provider, limits=GenerationLimits(max_batch_requests=2))
        for provider in ("cuda", "cpu")
    )
    assert gpu.provider == CUDA
    assert [one.tokens for one in gpu(texts, sampling=sampling)] == [
        one.tokens for one in processor(texts, sampling=sampling)
    ]
