"""Smaller precisions: what is written answers within its bounds, opens anywhere, and is refused beyond them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adamix_export.checkpoint.checkpoint import open_source
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError, ParityError
from adamix_export.parity.verification import verify
from adamix_export.precision import int8_dynamic, weight_only
from adamix_export.precision.block_quantization import Blocks, quantise_blocks
from adamix_export.precision.gptq import round_blocks
from adamix_export.precision.int8_dynamic import quantise_columns
from adamix_export.precision.table import PRECISIONS
from adamix_export.tasks.classification import logits
from serve.bundle.reader import open_bundle
from serve.bundle.writer import write_manifest
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from serve.generation.generator import Generator
from serve.limits import GenerationLimits
from serve.runtime.providers import CUDA
from serve.sampling_params import SamplingParams
from tests.adamix_export.conftest import Export
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import make_encoder, mixture

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]
PAIRS = [(text, "it is my") for text in TEXTS]
SMALLER = [(precision, kind) for precision, kinds in PRECISIONS.items() for kind in kinds if precision != "fp32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of every kind of model, wide enough for its matrices to be worth a smaller precision."""
    wide = {"hidden_size": 64, "intermediate_size": 128}
    folder = tmp_path_factory.mktemp("runs")
    encoder = make_encoder(tmp_path_factory.mktemp("bert"), "bert", **wide, initializer_range=0.1)
    decoder = make_writer(tmp_path_factory.mktemp("llama"), "llama", **wide, vocab_size=96, initializer_range=0.1)
    both = make_writer(tmp_path_factory.mktemp("t5"), "t5", d_model=64, d_ff=128, d_kv=32, vocab_size=96)
    write = {"task": "generation", "max_length": 24, "max_new_tokens": 6}
    return {
        "classification": mixture(folder / "tone", encoder, kind="houlsby"),
        "regression": mixture(folder / "alike", encoder, task="stsb", kind="lora", seed=1),
        "generation": mixture(folder / "text", decoder, kind="lora", **write),
        "sequence-to-sequence": mixture(folder / "other", both, kind="houlsby", **write),
    }


@pytest.mark.parametrize(("precision", "kind"), SMALLER)
def test_every_kind_of_model_answers_within_its_bounds(
    precision: str, kind: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    (report,) = export("bank", runs[kind], precision=precision).values()
    assert 0 < report.max_difference <= PRECISIONS[precision][kind].bounds.tolerance
    bundle = open_bundle(tmp_path / "out")
    assert bundle.manifest.precision == precision
    assert bundle.manifest.canary_tolerance > 0
    assert all(
        np.dtype(tensor.dtype) == np.float32 for one in bundle.adapters.values() for tensor in one.tensors.values()
    )
    assert verify(tmp_path / "out", [str(runs[kind])]).parity[runs[kind].name].passed


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_encoder_is_smaller_and_close_to_pytorch(
    precision: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", runs["classification"], out="exact")
    export("merged", runs["classification"], precision=precision)
    small, exact = (data_size(tmp_path / name) for name in ("out", "exact"))
    assert small < {"fp16": 0.55, "int8": 0.45}[precision] * exact
    found = np.stack([answer.logits for answer in Classifier(tmp_path / "out", provider="cpu")(TEXTS)])
    expected = logits(open_source(str(runs["classification"])), [(text,) for text in TEXTS])
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_what_is_not_yet_known_of_fp16_is_said(
    runs: dict[str, Path], export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    export("merged", runs["classification"], precision="fp16")
    assert "fp16: made for GPUs, and not yet run on one here" in caplog.text


def data_size(folder: Path) -> int:
    return (folder / "model.onnx.data").stat().st_size


def test_what_is_quantised_runs_in_operators_of_its_own(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    export("bank", runs["classification"], precision="int8")
    ops = operators(tmp_path / "out" / "model.onnx")
    assert ops["QAttention"] == 1
    assert ops["DynamicQuantizeMatMul"] == 2 * 6 - 3, "four projections and two halves of a feed-forward, in two layers"
    assert ops["GatherBlockQuantized"] == 1, "64 positions; a vocabulary of 50 is too small to be worth it"
    export("merged", runs["generation"], precision="int4", out="writer")
    ops = operators(tmp_path / "writer" / "model.onnx")
    assert ops["MatMulNBits"] == 2 * 3 + 1, "feed-forwards and logits; attention of two heads of 16 is too small"
    assert ops["GatherBlockQuantized"] == 1


def operators(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)


def test_a_row_of_int8_depends_little_on_the_rows_beside_it(
    runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs["classification"], precision="int8")
    classifier = Classifier(tmp_path / "out", provider="cpu")
    together = classifier.runner.run([classifier.encode(text, None, truncate=True) for text in TEXTS])
    for text, answer in zip(TEXTS, together, strict=True):
        (alone,) = classifier(text)
        assert np.abs(alone.logits - answer.logits).max() <= classifier.bundle.manifest.canary_tolerance


def test_rows_of_a_writer_are_quantised_each_by_itself(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    export("bank", runs["generation"], precision="int8")
    generator = Generator(tmp_path / "out", provider="cpu")
    together = generator(TEXTS[:3], max_new_tokens=6)
    assert [generator(text, max_new_tokens=6)[0].tokens for text in TEXTS[:3]] == [row.tokens for row in together]


def test_a_graph_that_loses_too_much_is_refused(
    runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, scales = quantise_columns(weight)
        return values, scales * np.float32(3)

    monkeypatch.setattr(int8_dynamic, "quantise_columns", broken)
    with pytest.raises(ParityError, match=r"logits differ by up to .* \(at least 97%\).*nothing was written"):
        export("merged", runs["classification"], precision="int8")
    assert not (tmp_path / "out").exists()


def test_a_precision_that_does_not_suit_is_one_error(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int4 is not for classification: choose fp32, fp16, int8"):
        export("merged", runs["classification"], precision="int4")
    with pytest.raises(ExportError, match="there is no precision int2; there are fp32, fp16, int8, int4, int4-fp16"):
        export("merged", runs["classification"], precision="int2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "precision", "target"),
    [
        ("regression", "int8", "peft"),
        ("regression", "int8", "onnx-adapter"),
        ("regression", "fp16", "triton"),
        ("generation", "int4", "onnx-adapter"),
        ("generation", "fp16", "genai"),
    ],
)
def test_smaller_bundles_can_be_converted(
    kind: str, precision: str, target: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs[kind], precision=precision)
    convert(tmp_path / "out", tmp_path / "converted", target)


matrices = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


@settings(deadline=None, max_examples=60)
@given(matrices, st.sampled_from([4, 8]))
def test_blocks_hold_every_value_to_one_step(weight: np.ndarray, bits: int) -> None:
    """A value is off by half a step, or by one where the other extreme of its block is cut; 4 bits may cut more."""
    blocks = quantise_blocks(weight, bits=bits, size=32)
    values = blocks.values
    if bits == 4:
        values = np.stack([values & 15, values >> 4], -1).reshape(*values.shape[:2], -1)
    steps = np.abs(blocks.scales)[..., None]
    found = (values.astype(np.float32) - (1 << bits - 1)) * blocks.scales[..., None]
    wanted = np.pad(weight, ((0, 0), (0, found[0].size - weight.shape[1]))).reshape(found.shape)
    cut = {4: 2.5, 8: 1.0}[bits]
    assert (np.abs(found - wanted) <= cut * steps + 1e-5).all()
    assert blocks.scales.shape == (len(weight), -(-weight.shape[1] // 32))


def test_calibrated_rounding_answers_closer_for_the_states_it_knows() -> None:
    """States that move together, as those of a layer do: rounding to the nearest values does not look at them."""
    random = np.random.default_rng(0)
    states = (random.normal(size=(400, 8)) @ random.normal(size=(8, 64)) + 0.1 * random.normal(size=(400, 64))).astype(
        np.float32
    )
    weight = random.normal(size=(48, 64)).astype(np.float32)
    expected = states @ weight.T

    def error(blocks: Blocks) -> float:
        values = np.stack([blocks.values & 15, blocks.values >> 4], -1).reshape(48, 2, 32).astype(np.float32) - 8
        return float(np.square(states @ (values * blocks.scales[..., None]).reshape(48, 64).T - expected).mean())

    calibrated = error(round_blocks(weight, states.T @ states, bits=4, size=32))
    assert calibrated < 0.4 * error(quantise_blocks(weight, bits=4, size=32))


def test_int4_is_calibrated_on_the_texts_that_are_given(
    runs: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []

    def observed(weight: np.ndarray, gram: np.ndarray, **options: int) -> Blocks:
        seen.append(gram)
        return round_blocks(weight, gram, **options)

    monkeypatch.setattr(weight_only, "round_blocks", observed)
    data = tmp_path / "texts.csv"
    data.write_text("input,target\n" + "".join(f"parcel {word},the parcel was {word}\n" for word in ("good", "bad")))
    export("bank", runs["generation"], precision="int4", calibration=data)
    assert len(seen) == 2 * 3
    assert all(gram.shape[0] == gram.shape[1] and np.trace(gram) > 0 for gram in seen)
    assert "name some with --calibration-data" not in caplog.text
    export("bank", runs["generation"], precision="int4", out="nearest")
    assert len(seen) == 2 * 3
    assert "name some with --calibration-data" in caplog.text


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_columns_hold_every_value_to_half_a_step(weight: np.ndarray) -> None:
    values, scales = quantise_columns(weight)
    assert np.abs(values.T * scales[:, None] - weight).max() <= scales.max() / 2 + 1e-5


@pytest.mark.parametrize(("precision", "kind"), [("int8", "classification"), ("int4", "generation")])
def test_a_quantised_graph_with_wrong_weights_is_not_served(
    precision: str, kind: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    """Its hashes hold, as if it had been made so: the canary rows tell."""
    export("merged", runs[kind], precision=precision)
    folder = tmp_path / "out"
    manifest = open_bundle(folder).manifest
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.endswith("scale") and "first" not in tensor.name:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(-3 * values), tensor.name))
    for file in folder.glob("model.onnx*"):
        file.unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    write_manifest(folder, manifest)
    engine = {"classification": Classifier, "generation": Generator}[kind]
    with pytest.raises(BundleError, match="does not give the logits that it gave in PyTorch on its canary rows"):
        engine(open_bundle(folder), provider="cpu")


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
    limits = GenerationLimits(max_batch_requests=2)
    gpu, processor = (Generator(tmp_path / "out", provider=provider, limits=limits) for provider in ("cuda", "cpu"))
    assert gpu.provider == CUDA
    assert [one.tokens for one in gpu(texts, sampling=sampling)] == [
        one.tokens for one in processor(texts, sampling=sampling)
    ]
