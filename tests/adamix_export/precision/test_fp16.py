import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.generation.step_outputs import DeviceOutputs
from serve.limits import GenerationLimits
from serve.runtime import session
from serve.runtime.providers import CUDA
from serve.sampling_params import SamplingParams
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]


def test_what_is_not_yet_known_of_fp16_is_said(
    runs: dict[str, Path], export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    export("merged", runs["classification"], precision="fp16", again=True)
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
    assert gpu.model.captures
    assert [one.tokens for one in gpu(texts, sampling=sampling)] == [
        one.tokens for one in processor(texts, sampling=sampling)
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["merged", "bank"])
@pytest.mark.parametrize("task", ["classification", "generation"])
def test_no_run_copies_between_the_host_and_the_device_but_its_inputs_and_outputs(
    task: str,
    shape: str,
    runs: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export(shape, runs[task], precision="fp16")
    make_options = session._options

    def profiling(*args: Any) -> ort.SessionOptions:
        options = make_options(*args)
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        return options

    monkeypatch.setattr(session, "_options", profiling)
    if task == "classification":
        engine: Classifier | Generator = Classifier(tmp_path / "out", provider="cuda")
        engine(TEXTS)
    else:
        engine = Generator(tmp_path / "out", provider="cuda")
        engine(TEXTS[:3], sampling=SamplingParams(max_new_tokens=4))
    events = json.loads(Path(engine.model.session.end_profiling()).read_text("utf-8"))
    operators = Counter(event["args"]["op_name"] for event in events if "op_name" in event.get("args", {}))
    assert sum(operators.values()) > 10
    assert not {"MemcpyToHost", "MemcpyFromHost"} & operators.keys()


@pytest.mark.parametrize("precision", ["fp16", "int4-fp16"])
def test_a_decoder_for_gpus_finds_the_likeliest_tokens_itself(
    precision: str,
    runs: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """On the paths of a device, the logits of a greedy request stay where they are."""
    export("bank", runs["generation"], precision=precision)
    assert [edge.name for edge in open_bundle(tmp_path / "out").manifest.outputs if "present" not in edge.name] == [
        "logits",
        "next_tokens",
        "next_logits",
    ]
    sampling = SamplingParams(max_new_tokens=6)
    expected = [one.tokens for one in Generator(tmp_path / "out", provider="cpu")(TEXTS[:3], sampling=sampling)]
    request.getfixturevalue("device_paths")
    read, copied = DeviceOutputs._read, set()

    def noted(self: DeviceOutputs, name: str, rows: Sequence[int]) -> np.ndarray:
        copied.add(name)
        return read(self, name, rows)

    generator = Generator(tmp_path / "out", provider="cpu")
    monkeypatch.setattr(DeviceOutputs, "_read", noted)
    assert [one.tokens for one in generator(TEXTS[:3], sampling=sampling)] == expected
    assert copied == {"next_tokens", "next_logits"}
    generator(TEXTS[:1], sampling=replace(sampling, logprobs=1))
    assert copied == {"next_tokens", "next_logits", "logits"}
