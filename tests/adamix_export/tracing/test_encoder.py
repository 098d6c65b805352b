"""Encoders: every family exports as a classifier in every shape and with every kind, and answers as PyTorch."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import peft
import pytest
import torch
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.tracing.encoder import write_graph
from adamix_train.base_model.load import load_classifier
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import KINDS, make_encoder, one_of_each_kind

pytestmark = pytest.mark.slow

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
    "modernbert": {"local_attention": 8, "num_hidden_layers": 3, "global_attn_every_n_layers": 2},
    "roberta": {},
}
"""With settings beyond the tiny ones: DeBERTa's as in its third version, a window shorter than the texts."""

UNFUSED = ("deberta-v2",)


@pytest.fixture(scope="module", params=FAMILIES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A mixture of every kind on a family."""
    return one_of_each_kind(tmp_path_factory.mktemp(request.param), request.param, **FAMILIES[request.param])


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


def require_fused(bundle: Path, checkpoint: Path, log: str) -> None:
    """Compare what a bundle and a log say of attention with what the family has."""
    config = open_checkpoint(str(checkpoint)).base_model().config
    unfused = config.model_type in UNFUSED
    assert json.loads((bundle / "bundle.json").read_text())["fused_attention"] is not unfused
    assert (f"{config.model_type}'s attention is not fused" in log) is unfused


def test_a_bank_of_every_kind_answers_as_pytorch(
    runs: dict[str, Path], export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts of very different lengths share a batch: what padding does shows, and so does a length not traced at."""
    export("bank", *runs.values())
    bank = Classifier(tmp_path / "out", provider="cpu")
    rows = [bank.encode(text, name, truncate=True) for text in TEXTS for name in KINDS]
    mixed = bank.runner.run(rows)
    for index, name in enumerate(KINDS):
        found = np.stack([answer.logits for answer in mixed[index :: len(KINDS)]])
        np.testing.assert_allclose(found, pytorch(runs[name]), atol=1e-4)
    require_fused(tmp_path / "out", runs["lora"], caplog.text)
    config = open_checkpoint(str(runs["lora"])).base_model().config
    operators = Counter(node.op_type for node in ir.load(tmp_path / "out" / "model.onnx").graph)
    assert operators["MultiHeadAttention"] == (0 if config.model_type in UNFUSED else config.num_hidden_layers)


NARROWED = {"MultiHeadAttention": 1, "MatMul": 4, "LayerNormalization": 2}
"""Operators of a last layer for one token. MatMul: query, attention's output, and the feed-forward's two."""

OF_ONE_TOKEN = {
    "bert": NARROWED,
    "deberta-v2": {},
    "distilbert": NARROWED,
    "electra": NARROWED,
    "modernbert": {"MatMul": 1},
    "roberta": NARROWED,
}
"""Operators for one token, by family. ModernBERT adds a bias to the scores, laid out by token: behind attention one
token will do, before it not."""

ATTENTION = {
    "bert": (1, 1),
    "deberta-v2": (0, 0),
    "distilbert": (1, 1),
    "electra": (1, 1),
    "modernbert": (0, 3),
    "roberta": (1, 1),
}
"""Numbers of `Attention`, which multiplies every token's query itself, and of `MultiHeadAttention`."""


def of_one_token(graph: ir.Graph) -> dict[str, int]:
    """Number of nodes that work on one token of each row, by operator."""
    shapes = [(node.op_type, node.outputs[0].shape) for node in graph]
    return Counter(name for name, shape in shapes if shape is not None and len(shape) == 3 and shape[1] == 1)


def test_a_merged_graph_answers_as_pytorch_and_computes_its_last_layer_for_the_token_that_is_read(
    runs: dict[str, Path], export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export("merged", runs["lora"])
    merged = Classifier(tmp_path / "out", provider="cpu")
    rows = [merged.encode(text, "lora", truncate=True) for text in TEXTS]
    found = np.stack([answer.logits for answer in merged.runner.run(rows)])
    np.testing.assert_allclose(found, pytorch(runs["lora"]), atol=1e-5)
    require_fused(tmp_path / "out", runs["lora"], caplog.text)
    graph = ir.load(tmp_path / "out" / "model.onnx").graph
    family = merged.bundle.manifest.base["model_type"]
    narrow, operators = of_one_token(graph), Counter(node.op_type for node in graph)
    assert {name: narrow[name] for name in OF_ONE_TOKEN[family]} == OF_ONE_TOKEN[family]
    assert (operators["Attention"], operators["MultiHeadAttention"]) == ATTENTION[family]
    if operators["Attention"]:
        wide = [node for node in graph if node.op_type == "Reshape" and len(node.outputs[0].shape or ()) > 2]
        assert not wide, "reshapes are left around attention"


def test_a_head_that_reads_every_token_gets_them(tmp_path: Path) -> None:
    base = make_encoder(tmp_path / "base", "modernbert", num_hidden_layers=1, classifier_pooling="mean")
    model = load_classifier(base, ["no", "yes", "perhaps"]).requires_grad_(False).eval()
    generator = np.random.default_rng(0)
    mask = (np.arange(23) < np.array([23, 1, 9, 22, 2])[:, None]).astype(np.int64)
    ids = generator.integers(5, 40, (5, 23)) * mask
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    write_graph(model, ["input_ids", "attention_mask"], None, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert of_one_token(ir.load(tmp_path / "model.onnx").graph)["MatMul"] == 0
