import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from adamix_export.passes import candidates
from adamix_export.precision import weight_only
from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from serve.generated_text import GenerationResult
from serve.generation import scheduler
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt
from serve.generation.sampling.batch_draw import CandidateTable
from serve.generation.step_outputs import DeviceOutputs
from serve.limits import GenerationLimits
from serve.runtime import session
from serve.runtime.providers import CUDA
from serve.sampling_params import SamplingParams
from tests.adamix_export.conftest import Export, run_export

pytestmark = pytest.mark.slow

ROUNDED = {"cpu": (0.05, 0.2), "cuda": (0.0, 0.02)}
"""Least and largest difference of a logit by how activations are rounded, as a share of the largest logit."""
TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]


def test_fp16_says_what_it_is_for(runs: dict[str, Path], export: Export, caplog: pytest.LogCaptureFixture) -> None:
    export("merged", runs["classification"], precision="fp16", again=True)
    assert "fp16: intended for GPUs; on a CPU" in caplog.text


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
def test_a_gpu_writes_what_a_processor_writes_of_the_same_bundle(
    runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    """Rows that join, move and leave in the memory of the device."""
    export("bank", runs["generation"], precision="fp16")
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


@pytest.mark.parametrize("provider", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_four_bit_weights_are_those_of_the_processor(
    provider: str, runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor rounds activations to 8 bits, a GPU does not: both are near a processor that is told not to."""
    export("bank", runs["generation"], precision="int4-fp16")
    monkeypatch.setattr(weight_only, "INT8_STATES", 0)
    export("bank", runs["generation"], precision="int4-fp16", out="exact", again=True)
    found, exact = (
        np.concatenate(_forced(Generator(tmp_path / folder, provider=where)))
        for folder, where in (("out", provider), ("exact", "cpu"))
    )
    least, most = ROUNDED[provider]
    assert least <= np.abs(found - exact).max() / np.abs(exact).max() < most


def _forced(generator: Generator) -> list[np.ndarray]:
    adapter = generator.registry.find(None)
    prompts = [Prompt(generator.tokenizer.encode(text).ids, adapter) for text in TEXTS]
    return generator.forced_logits(prompts, [[7, 8, 9]] * len(prompts))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("shape", ["merged", "bank"])
@pytest.mark.parametrize("task", ["classification", "generation"])
def test_no_run_copies_between_the_host_and_the_device_but_its_inputs_and_outputs(
    task: str,
    shape: str,
    precision: str,
    runs: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export(shape, runs[task], precision=precision)
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
        "candidate_tokens",
        "candidate_logits",
        "log_sum_exp",
    ]
    sampling = SamplingParams(max_new_tokens=6)
    expected = [one.tokens for one in Generator(tmp_path / "out", provider="cpu")(TEXTS[:3], sampling=sampling)]
    request.getfixturevalue("device_paths")
    sent = sent_bytes(monkeypatch)
    generator = Generator(tmp_path / "out", provider="cpu")
    sent.clear()  # what was read to check canaries
    assert [one.tokens for one in generator(TEXTS[:3], sampling=sampling)] == expected
    assert set(sent) == {"next_tokens", "next_logits"}
    generator(TEXTS[:1], sampling=replace(sampling, logprobs=1))
    assert set(sent) == {"next_tokens", "next_logits", "candidate_tokens", "candidate_logits", "log_sum_exp"}


def sent_bytes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on the bytes of each output that a device sends."""
    read, sent = DeviceOutputs._read, Counter[str]()

    def noted(self: DeviceOutputs, name: str, rows: Sequence[int]) -> np.ndarray:
        found = read(self, name, rows)
        sent[name] += found.nbytes
        return found

    monkeypatch.setattr(DeviceOutputs, "_read", noted)
    return sent


CANDIDATES = 12
"""Of a vocabulary of 96."""
SAMPLED: dict[str, dict[str, Any]] = {
    "top-k": {"temperature": 1.3, "top_k": 8},
    "top-k and top-p": {"temperature": 0.9, "top_k": 10, "top_p": 0.8},
    "top-p": {"temperature": 0.02, "top_p": 0.9},
    "min-p": {"temperature": 0.02, "min_p": 0.2},
    "repetition": {"repetition_penalty": 1.2},
    "logprobs": {"logprobs": 3},
    "sampled logprobs": {"temperature": 0.7, "top_k": 5, "logprobs": 3},
}
"""Requests that candidates decide; in a random model, tokens have nearly the same probability."""
UNDECIDED: dict[str, dict[str, Any]] = {
    "all": {"temperature": 1.5},
    "many": {"temperature": 1.0, "top_k": 40},
    "raised": {"logit_bias": {5: 1.0}},
    "beams": {"num_beams": 2},
}


@pytest.fixture(scope="module")
def few_candidates(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with fewer candidates than tokens."""
    folder = tmp_path_factory.mktemp("few") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "add_candidates", partial(candidates.add_candidates, count=CANDIDATES, width=32))
        run_export(folder, "bank", runs["generation"], precision="fp16")
    return folder


def results(generator: Generator, asked: dict[str, Any]) -> list[GenerationResult]:
    sampling = [SamplingParams(max_new_tokens=6, seed=seed, **asked) for seed in range(4)]
    return [result for one in sampling for result in generator(TEXTS[:3], sampling=one)]


def assert_equal(found: list[GenerationResult], expected: list[GenerationResult]) -> None:
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    for one, other in zip(found, expected, strict=True):
        for entry, wanted in zip(one.logprobs, other.logprobs, strict=True):
            assert entry.logprob == pytest.approx(wanted.logprob, abs=1e-5)
            top = [candidate.logprob for candidate in wanted.top]
            assert [candidate.logprob for candidate in entry.top] == pytest.approx(top, abs=1e-5)


@pytest.mark.parametrize("asked", [*SAMPLED, *UNDECIDED])
def test_rows_are_sampled_from_their_candidates_and_copied_only_where_these_do_not_decide(
    asked: str, few_candidates: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Both draw the same tokens; the bytes of the outputs that a device sends say which rows were read."""
    sampling = (SAMPLED | UNDECIDED)[asked]
    expected = results(Generator(few_candidates, provider="cpu"), sampling)
    request.getfixturevalue("device_paths")
    generator = Generator(few_candidates, provider="cpu")
    sent = sent_bytes(monkeypatch)
    assert_equal(results(generator, sampling), expected)
    rows = sum(map(len, (one.tokens for one in expected)))
    assert sent["next_tokens"] >= 8 * rows
    if asked in SAMPLED:
        assert not sent["logits"]
        assert sent["candidate_tokens"] == 2 * sent["candidate_logits"] == CANDIDATES * sent["next_tokens"]
    else:
        assert sent["logits"] > 0 and sent["logits"] % (96 * 4) == 0
    assert bool(sent["candidate_tokens"]) == (asked != "beams")


@pytest.mark.parametrize("asked", ["top-k", "top-k and top-p", "top-p", "min-p", "all", "many"])
def test_rows_that_draw_together_draw_what_each_draws_by_itself(
    asked: str, few_candidates: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    sampling = (SAMPLED | UNDECIDED)[asked]
    expected = results(Generator(few_candidates, provider="cpu"), sampling)
    request.getfixturevalue("device_paths")
    monkeypatch.setattr(scheduler, "DRAWN_TOGETHER", 2)
    draws: list[int | None] = []
    draw = CandidateTable.draw

    def noted(self: CandidateTable, *args: Any) -> list[int | None]:
        draws.extend(found := draw(self, *args))
        return found

    monkeypatch.setattr(CandidateTable, "draw", noted)
    assert_equal(results(Generator(few_candidates, provider="cpu"), sampling), expected)
    assert len(draws) > 12
    assert (None in draws) == (asked in UNDECIDED)


@pytest.mark.gpu
@pytest.mark.parametrize("asked", [*SAMPLED, *UNDECIDED])
def test_a_gpu_samples_what_a_processor_samples(asked: str, few_candidates: Path) -> None:
    """Logits differ in their last digits between the two, and with them seldom a draw."""
    sampling = (SAMPLED | UNDECIDED)[asked]
    found, expected = (results(Generator(few_candidates, provider=one), sampling) for one in ("cuda", "cpu"))
    same = [one.tokens[:1] == other.tokens[:1] for one, other in zip(found, expected, strict=True)]
    assert np.mean(same) > 0.8
