"""Bundles with a packed graph: real models, merged and in banks, against the padded graph and PyTorch."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from serve.bundle.graph_io import ADAPTER_IDS, ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from serve.bundle.reader import open_bundle
from serve.classification.classifier import Classifier
from serve.runtime.padding import mask_of, pad
from tests.adamix_export.conftest import Export, MakeGenerative
from tests.adamix_export.passes.packed_operators import run_packed
from tests.fixtures.random_checkpoints import make_decoder, make_encoder, mixture, one_of_each_kind

pytestmark = pytest.mark.slow

FAMILIES = ["bert", "distilbert", "electra", "roberta"]
LONG = "the parcel was good and my shop is awful it is a fine lovely great poor " * 3
TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine", LONG]
TOLERANCES = {"fp32": 1e-5, "fp16": 0.05}


@pytest.fixture(scope="module", params=FAMILIES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A mixture of each kind on a family; all have rows of their own in a bank."""
    return one_of_each_kind(tmp_path_factory.mktemp(request.param), request.param)


def packed_logits(classifier: Classifier, texts: list[str], names: list[str]) -> np.ndarray:
    """The logits of a bundle's packed graph by the reference of its operators, all rows in one batch."""
    rows = [classifier.encode(text, name, truncate=True) for text, name in zip(texts, names, strict=True)]
    arrays = {
        INPUT_IDS: pad([row.input_ids for row in rows], classifier.bundle.manifest.pad_token_id),
        ATTENTION_MASK: mask_of([len(row) for row in rows]),
        TOKEN_TYPE_IDS: pad([row.token_type_ids for row in rows], 0),
    }
    feeds = {name: array for name, array in arrays.items() if name in classifier.runner.padded}
    assert classifier.bundle.packed is not None
    model = onnx.load(classifier.bundle.packed)
    if classifier.bank is None:
        return run_packed(model, feeds)
    with classifier.bank.acquire([row.adapter for row in rows]) as (slots, stacks):
        stacked = {name: stack.numpy() for name, stack in stacks.items()}
        return run_packed(model, {**feeds, **stacked, ADAPTER_IDS: slots})


def pytorch(run: Path, text: str) -> np.ndarray:
    """The logits of a checkpoint for one text by itself."""
    checkpoint = open_checkpoint(str(run))
    inputs = checkpoint.tokenizer(text, truncation=True, max_length=60, return_tensors="pt")
    with torch.inference_mode():
        return checkpoint.reference(**inputs).logits[0].numpy()


def compare(folder: Path, runs: dict[str, Path], atol: float) -> None:
    """Compare every text in every adapter: the packed graph, the padded one on the CPU, and PyTorch."""
    classifier = Classifier(folder, provider="cpu", threads=1)
    texts, names = [text for text in TEXTS for _ in runs], list(runs) * len(TEXTS)
    found = packed_logits(classifier, texts, names)
    for row, prediction, text, name in zip(found, classifier(texts, adapter=names), texts, names, strict=True):
        np.testing.assert_allclose(row, prediction.logits, atol=atol)
        np.testing.assert_allclose(row, pytorch(runs[name], text), atol=max(atol, 1e-4))


@pytest.mark.parametrize("kind", ["lora", pytest.param("houlsby", marks=pytest.mark.soak)])
def test_a_packed_merged_graph_gives_pytorchs_logits(
    kind: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    """Packing does not know a kind: that modules beside the weights can be packed, banks show."""
    export("merged", f"{kind}={runs[kind]}", packed=True)
    compare(tmp_path / "out", {kind: runs[kind]}, TOLERANCES["fp32"])


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_packed_bank_gives_each_rows_own_logits(
    precision: str, runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("bank", *(f"{kind}={run}" for kind, run in runs.items()), packed=True, precision=precision)
    compare(tmp_path / "out", runs, TOLERANCES[precision])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights take more room than its graph."""
    folder = tmp_path_factory.mktemp("wide")
    return mixture(folder / "run", make_encoder(folder / "base", "bert", hidden_size=64, intermediate_size=128))


def test_both_graphs_share_their_weights(wide: Path, export: Export, tmp_path: Path) -> None:
    export("merged", wide, packed=True)
    export("merged", wide, out="padded")
    bundle = open_bundle(tmp_path / "out")
    assert set(bundle.manifest.files) - set(open_bundle(tmp_path / "padded").manifest.files) == {"packed.onnx"}
    assert bundle.packed is not None
    assert bundle.packed.stat().st_size < (tmp_path / "out" / "model.onnx.data").stat().st_size / 4
    ops = Counter(node.op_type for node in onnx.load(bundle.packed, load_external_data=False).graph.node)
    assert (ops["RemovePadding"], ops["PackedAttention"], ops["PackedMultiHeadAttention"]) == (1, 1, 1)
    assert ops["RestorePadding"] == 0


def test_a_reader_that_does_not_know_packed_graphs_opens_the_padded_one(
    wide: Path, export: Export, tmp_path: Path
) -> None:
    """The manifest has no field for it: the list of files names it, as it names every file."""
    export("merged", wide, packed=True)
    export("merged", wide, out="padded")
    fields = [json.loads((tmp_path / name / "bundle.json").read_text()).keys() for name in ("out", "padded")]
    assert fields[0] == fields[1]


@pytest.mark.parametrize(
    ("family", "message"),
    [("deberta-v2", "its attention is not an operator of ONNX Runtime"), ("modernbert", "adds a bias to the scores")],
)
def test_a_family_that_cannot_be_packed_is_refused_and_leaves_nothing(
    family: str, message: str, export: Export, tmp_path: Path
) -> None:
    run = mixture(tmp_path / "run", make_encoder(tmp_path / "base", family))
    with pytest.raises(ExportError, match=message):
        export("merged", run, packed=True, fresh=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_decoder_is_refused_before_it_is_traced(family: str, tmp_path: Path) -> None:
    run = mixture(tmp_path / "run", make_decoder(tmp_path / "base", family))
    stages: list[str] = []
    with pytest.raises(ExportError, match=rf"run is on a {family}, whose attention is causal, .* without --packed"):
        EXPORTS["merged"]([open_checkpoint(str(run))], tmp_path / "out", Options(packed=True), stages.append)
    assert not stages


def test_a_generator_is_refused_before_it_is_traced(generative: MakeGenerative, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(generative("llama", "lora")))
    stages: list[str] = []
    with pytest.raises(ExportError, match=r"--packed is for classifiers; .* was trained for generation"):
        EXPORTS["merged"]([checkpoint], tmp_path / "out", Options(packed=True), stages.append)
    assert not stages


@pytest.mark.parametrize(
    ("shape", "precision", "message"),
    [
        ("merged", "int8", "--packed is for GPUs, in fp16 or fp32; not in int8"),
        ("adapter", "fp32", "shape adapter has no graph to be packed"),
    ],
)
def test_a_packed_graph_needs_a_precision_of_gpus_and_a_graph(
    shape: str, precision: str, message: str, houlsby: Path, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(houlsby))
    with pytest.raises(ExportError, match=message):
        options = Options(packed=True, precision=precision)
        EXPORTS[shape]([checkpoint], tmp_path / "out", options, lambda stage: None)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_a_packed_graph_on_a_gpu_gives_the_logits_of_the_cpu(
    shape: str, precision: str, tmp_path: Path, export: Export
) -> None:
    """Heads are 32 wide, as the fused kernels take them."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1}
    run = mixture(tmp_path / "run", make_encoder(tmp_path / "base", "bert", **wide), max_length=60)
    export(shape, run, packed=True, precision=precision)
    cuda, cpu = (Classifier(tmp_path / "out", provider=provider) for provider in ("cuda", "cpu"))
    assert (cuda.model.graph.name, cpu.model.graph.name) == ("packed.onnx", "model.onnx")
    for one, other in zip(cuda(TEXTS), cpu(TEXTS), strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=max(1e-3, TOLERANCES[precision]))
