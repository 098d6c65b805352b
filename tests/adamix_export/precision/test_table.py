"""Smaller precisions: what is written answers within its bounds, opens anywhere, and is refused beyond them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError
from adamix_export.parity.verification import verify
from adamix_export.precision import sensitivity
from adamix_export.precision.table import PRECISIONS
from adamix_export.tasks.classification import logits
from serve.bundle.reader import open_bundle
from serve.bundle.writer import write_manifest
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from serve.generation.generator import Generator
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import make_encoder, mixture

pytestmark = pytest.mark.slow

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine shop", "the " * 30]

PAIRS = [(text, "it is my") for text in TEXTS]

SMALLER = [
    pytest.param(precision, kind, marks=pytest.mark.slow if kind == "sequence-to-sequence" else ())
    for precision, kinds in PRECISIONS.items()
    for kind in kinds
    if precision != "fp32"
]


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


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_encoder_is_smaller_and_close_to_pytorch(
    precision: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", runs["classification"], out="exact")
    export("merged", runs["classification"], precision=precision)
    small, exact = (data_size(tmp_path / name) for name in ("out", "exact"))
    assert small < {"fp16": 0.55, "int8": 0.7}[precision] * exact, "some products of a random base stay in fp32"
    found = np.stack([answer.logits for answer in Classifier(tmp_path / "out", provider="cpu")(TEXTS)])
    expected = logits(open_checkpoint(str(runs["classification"])), [(text,) for text in TEXTS])
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def data_size(folder: Path) -> int:
    return (folder / "model.onnx.data").stat().st_size


@pytest.mark.slow
def test_what_is_quantized_runs_in_operators_of_its_own(
    runs: dict[str, Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "MAX_LOSS", 100.0)
    export("bank", runs["classification"], precision="int8", again=True)
    ops = operators(tmp_path / "out" / "model.onnx")
    assert ops["QAttention"] == 1
    assert ops["MatMulIntegerToFloat"] == 2 * 6 - 3, "four projections and two halves of a feed-forward, in two layers"
    assert ops["GatherBlockQuantized"] == 1, "64 positions; a vocabulary of 50 is too small to be worth it"
    export("merged", runs["generation"], precision="int4", out="writer")
    ops = operators(tmp_path / "writer" / "model.onnx")
    assert ops["MatMulNBits"] == 2 * 3 + 1, "feed-forwards and logits; attention of two heads of 16 is too small"
    assert ops["GatherBlockQuantized"] == 1


@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 0, 0), ("fp16", 0, 0), ("int8", 0.4, 0.99)])
def test_the_manifest_has_the_share_of_quantized_weights(
    precision: str, least: float, most: float, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", runs["classification"], precision=precision)
    share = open_bundle(tmp_path / "out").manifest.quantized_share
    assert share is not None and least <= share <= most


def test_an_export_that_quantizes_nothing_is_an_error(export: Export, tmp_path: Path) -> None:
    narrow = mixture(tmp_path / "mood", make_encoder(tmp_path / "base", "bert"), kind="lora")
    with pytest.raises(ExportError, match="int8 quantizes matrices with sides of at least 64, and the base has none"):
        export("merged", narrow, precision="int8", fresh=True)
    assert not (tmp_path / "out").exists()


def operators(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)


def test_a_precision_that_does_not_suit_is_one_error(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="int4 is not for classification: choose fp32, fp16, bf16, int8"):
        export("merged", runs["classification"], precision="int4", fresh=True)
    with pytest.raises(
        ExportError, match="there is no precision int2; there are fp32, fp16, bf16, int8, w8a8, int4, int4-fp16"
    ):
        export("merged", runs["classification"], precision="int2", fresh=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "precision", "target"),
    [
        ("regression", "int8", "peft"),
        ("regression", "int8", "onnx-adapter"),
        ("regression", "fp16", "triton"),
        ("generation", "int4", "onnx-adapter"),
        ("generation", "fp16", "genai"),
        ("generation", "int8", "genai"),
        ("generation", "int4", "genai"),
    ],
)
def test_smaller_bundles_can_be_converted(
    kind: str, precision: str, target: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", runs[kind], precision=precision)
    convert(tmp_path / "out", tmp_path / "converted", target)


@pytest.mark.parametrize(("precision", "kind"), [("int8", "classification"), ("int4", "generation")])
def test_a_quantized_graph_with_wrong_weights_is_not_served(
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
