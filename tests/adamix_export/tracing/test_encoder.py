"""Encoders: every family exports as a classifier in every shape and with every kind, and answers as PyTorch."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import peft
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.tracing.encoder import write_graph
from adamix_train.base_model.load import load_classifier
from serve.bundle.reader import open_bundle, with_adapters
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import make_encoder, mixture

pytestmark = pytest.mark.slow

KINDS = ["houlsby", "lora", "pfeiffer"]

LONG = "the parcel was good and my shop is awful it is a fine lovely great poor " * 3

TEXTS = ["good", "the parcel was bad", "my shop is great it was a fine", LONG]

FAMILIES = {
    "bert": {},
    "deberta-v2": {
        "position_buckets": 8,
        "max_relative_positions": -1,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "distilbert": {},
    "electra": {},
    "modernbert": {"local_attention": 8, "num_hidden_layers": 4},
    "roberta": {},
}
"""With settings beyond the tiny ones: DeBERTa's as in its third version, a window shorter than the texts."""

UNFUSED = ("deberta-v2",)


@pytest.fixture(scope="module", params=FAMILIES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A mixture of every kind on a family, and the family's name."""
    folder = tmp_path_factory.mktemp(request.param)
    base = make_encoder(folder / "base", request.param, **FAMILIES[request.param])
    return {
        kind: mixture(folder / kind, base, kind=kind, max_length=60, seed=index) for index, kind in enumerate(KINDS)
    }


def pytorch(checkpoint: Path) -> np.ndarray:
    """Logits of the checkpoint as PEFT loads it, each text by itself."""
    model = peft.PeftModel.from_pretrained(open_checkpoint(str(checkpoint)).base_model(), checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        return np.concatenate(
            [
                model(**tokenizer(text, truncation=True, max_length=60, return_tensors="pt")).logits.numpy()
                for text in TEXTS
            ]
        )


@pytest.mark.slow
def test_every_shape_and_kind_answers_as_pytorch(
    runs: dict[str, Path], export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts of very different lengths share a batch: what padding does shows, and so does a length not traced at."""
    expected = {kind: pytorch(run) for kind, run in runs.items()}
    export("bank", *runs.values(), out="bank")
    export("merged", runs["lora"], out="merged")
    export("adapter", f"mine={runs['houlsby']}", out="mine")
    bank = Classifier(with_adapters(open_bundle(tmp_path / "bank"), [tmp_path / "mine"]), provider="cpu")
    names = [*KINDS, "mine"]
    rows = [bank.encode(text, name, truncate=True) for text in TEXTS for name in names]
    mixed = bank.runner.run(rows)
    for index, name in enumerate(names):
        found = np.stack([answer.logits for answer in mixed[index :: len(names)]])
        np.testing.assert_allclose(found, expected["houlsby" if name == "mine" else name], atol=1e-4)
    merged = Classifier(tmp_path / "merged", provider="cpu")
    found = np.stack(
        [answer.logits for answer in merged.runner.run([merged.encode(text, "lora", truncate=True) for text in TEXTS])]
    )
    np.testing.assert_allclose(found, expected["lora"], atol=1e-4)
    fused = (tmp_path / "bank" / "bundle.json", tmp_path / "merged" / "bundle.json")
    config = open_checkpoint(str(runs["lora"])).base_model().config
    unfused = config.model_type in UNFUSED
    assert [json.loads(file.read_text())["fused_attention"] for file in fused] == [not unfused] * 2
    assert (f"{config.model_type}'s attention is not fused" in caplog.text) is unfused
    ops = Counter(
        node.op_type for node in onnx.load(tmp_path / "bank" / "model.onnx", load_external_data=False).graph.node
    )
    assert ops["MultiHeadAttention"] == (0 if unfused else config.num_hidden_layers)


INPUTS = ["input_ids", "attention_mask"]

LAYERS = 3


def classifier(folder: Path, family: str, **settings: object) -> PreTrainedModel:
    """A tiny base with a head, the same whenever it is loaded."""
    if not folder.exists():
        make_encoder(folder, family, **settings)
    torch.manual_seed(1)
    return load_classifier(folder, ["no", "yes", "perhaps"]).requires_grad_(False).eval()


def written(folder: Path, family: str, **settings: object) -> tuple[ir.Graph, float]:
    """The graph of a family, and its largest difference from PyTorch on rows of very different lengths."""
    write_graph(classifier(folder / "base", family, **settings), INPUTS, None, folder / "model.onnx")
    generator = np.random.default_rng(0)
    ids = generator.integers(5, 40, (5, 23))
    mask = (np.arange(23) < np.array([23, 1, 9, 22, 2])[:, None]).astype(np.int64)
    session = ort.InferenceSession(folder / "model.onnx")
    (found,) = session.run(None, {"input_ids": ids * mask, "attention_mask": mask})
    with torch.inference_mode():
        expected = classifier(folder / "base", family)(
            input_ids=torch.tensor(ids * mask), attention_mask=torch.tensor(mask)
        ).logits
    return ir.load(folder / "model.onnx").graph, float(np.abs(found - expected.numpy()).max())


def of_one_token(graph: ir.Graph, op_type: str) -> int:
    """Number of nodes of an operator that work on one token of each row."""
    shapes = [node.outputs[0].shape for node in graph if node.op_type == op_type]
    return sum(shape is not None and len(shape) == 3 and shape[1] == 1 for shape in shapes)


@pytest.mark.parametrize(("family", "layers"), [("bert", {}), ("roberta", {}), ("electra", {})])
def test_the_last_layer_is_computed_for_the_token_that_is_read(
    family: str, layers: dict[str, int], tmp_path: Path
) -> None:
    graph, difference = written(tmp_path, family, num_hidden_layers=LAYERS)
    operators = Counter(node.op_type for node in graph)
    assert difference < 1e-5
    assert operators["Attention"] == LAYERS - 1
    assert operators["MultiHeadAttention"] == 1
    assert of_one_token(graph, "MultiHeadAttention") == 1
    assert of_one_token(graph, "MatMul") == 4  # query, attention's output, and the feed-forward's two
    assert of_one_token(graph, "LayerNormalization") == 2


def test_distilbert_too(tmp_path: Path) -> None:
    graph, difference = written(tmp_path, "distilbert", n_layers=LAYERS)
    assert difference < 1e-5
    assert of_one_token(graph, "MatMul") == 4


def test_a_window_around_each_token_keeps_its_queries(tmp_path: Path) -> None:
    """ModernBERT adds a bias to the scores, laid out by token: behind attention one token will do, before it not."""
    graph, difference = written(
        tmp_path, "modernbert", num_hidden_layers=LAYERS, global_attn_every_n_layers=2, local_attention=6
    )
    assert difference < 1e-4
    assert of_one_token(graph, "MatMul") > 0
    assert Counter(node.op_type for node in graph)["Attention"] == 0


def test_a_head_that_reads_every_token_gets_them(tmp_path: Path) -> None:
    graph, difference = written(tmp_path, "modernbert", num_hidden_layers=LAYERS, classifier_pooling="mean")
    assert difference < 1e-4
    assert of_one_token(graph, "MatMul") == 0


def test_no_reshapes_are_left_around_attention(tmp_path: Path) -> None:
    graph, _ = written(tmp_path, "bert", num_hidden_layers=LAYERS)
    assert not [node for node in graph if node.op_type == "Reshape" and len(node.outputs[0].shape or ()) > 2]
