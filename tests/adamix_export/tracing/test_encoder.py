"""Encoders: every family exports as a classifier in every shape and with every kind, and answers as PyTorch."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import peft
import pytest
import torch
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_source
from serve.bundle.reader import open_bundle, with_adapters
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import make_encoder, mixture

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
    model = peft.PeftModel.from_pretrained(open_source(str(checkpoint)).base_model(), checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        return np.concatenate(
            [
                model(**tokenizer(text, truncation=True, max_length=60, return_tensors="pt")).logits.numpy()
                for text in TEXTS
            ]
        )


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
    config = open_source(str(runs["lora"])).base_model().config
    unfused = config.model_type in UNFUSED
    assert [json.loads(file.read_text())["fused_attention"] for file in fused] == [not unfused] * 2
    assert (f"{config.model_type}'s attention is not fused" in caplog.text) is unfused
    ops = Counter(
        node.op_type for node in onnx.load(tmp_path / "bank" / "model.onnx", load_external_data=False).graph.node
    )
    assert ops["MultiHeadAttention"] == (0 if unfused else config.num_hidden_layers)
