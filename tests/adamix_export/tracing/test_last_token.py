"""Decoders and T5 as classifiers: they export in every shape and with every kind, and answer as PyTorch."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import peft
import pytest
import torch
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from serve.classification.classifier import Classifier
from tests.adamix_export.conftest import Export
from tests.fixtures.random_checkpoints import make_decoder, mixture

pytestmark = pytest.mark.slow

KINDS = ["houlsby", "lora", "pfeiffer"]
LONG = "the parcel was good and my shop is awful it is a fine lovely great poor " * 3
TEXTS = ["good", "the parcel was bad", "my shop </s> is great it was a fine", LONG, "the shop was good </s> </s>"]
"""Of very different lengths; with the end-of-sequence token, which pads but in T5, within a text and at its end."""
PAIR = ("the parcel was good", "my shop")
FAMILIES = ("gpt2", "llama", "qwen2", "qwen3", "t5")
NARROWED = {"MultiHeadAttention": 1, "MatMul": 3, "SimplifiedLayerNormalization": 2}
"""Operators of a last layer for one token. MatMul: attention's output, and the feed-forward's two."""
OF_ONE_TOKEN = {
    "gpt2": {"MultiHeadAttention": 1, "MatMul": 3, "LayerNormalization": 2},
    "llama": NARROWED,
    "qwen2": NARROWED,
    "qwen3": NARROWED,
    "t5": {"MultiHeadAttention": 1, "MatMul": 5, "SimplifiedLayerNormalization": 3},
}
"""By family; T5's attention to earlier tokens has a bias, that to the source has none and multiplies its own query."""

WIDTHS = {"gpt2": ["n_embd"], "qwen3": ["hidden_size", "intermediate_size"], "t5": ["d_model", "d_ff"]}
"""Sizes of a family's matrices."""
DEPTH = {"gpt2": "n_layer", "qwen3": "num_hidden_layers", "t5": "num_layers"}


@pytest.fixture(scope="module", params=FAMILIES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A mixture of every kind on a family, with two labels, with three, with a score, and for pairs."""
    folder = tmp_path_factory.mktemp(request.param)
    base = make_decoder(folder / "base", request.param)
    return {
        "houlsby": mixture(folder / "houlsby", base, kind="houlsby", max_length=60),
        "lora": mixture(folder / "lora", base, kind="lora", max_length=60, labels=("a", "b", "c"), seed=1),
        "pfeiffer": mixture(folder / "pfeiffer", base, kind="pfeiffer", max_length=60, task="regression", seed=2),
        "pairs": mixture(folder / "pairs", base, kind="lora", max_length=60, task="pair-classification", seed=3),
    }


def pytorch(checkpoint: Path, *texts: str | tuple[str, str]) -> list[np.ndarray]:
    """Logits of the checkpoint as PEFT loads it, each text by itself."""
    model = peft.PeftModel.from_pretrained(open_checkpoint(str(checkpoint)).base_model(), checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    options = {"truncation": True, "max_length": 60, "return_tensors": "pt"}
    with torch.inference_mode():
        return [
            model(**tokenizer(*([text] if isinstance(text, str) else text), **options)).logits[0].numpy()
            for text in texts
        ]


def test_a_bank_of_every_kind_answers_as_pytorch(runs: dict[str, Path], export: Export, tmp_path: Path) -> None:
    """Rows of a batch have very different lengths; alone they give the same."""
    export("bank", *runs.values())
    bank = Classifier(tmp_path / "out", provider="cpu")
    asked = {name: [PAIR] if name == "pairs" else TEXTS for name in runs}
    rows = [bank.encode(text, name, truncate=True) for name in runs for text in asked[name]]
    expected = [logits for name in runs for logits in pytorch(runs[name], *asked[name])]
    for one, row, logits in zip(bank.runner.run(rows), rows, expected, strict=True):
        (alone,) = bank.runner.run([row])
        np.testing.assert_allclose(one.logits, logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(alone.logits, logits, rtol=0, atol=1e-4)


def test_a_merged_graph_computes_its_last_layer_for_the_token_that_is_read(
    runs: dict[str, Path], export: Export, tmp_path: Path
) -> None:
    export("merged", runs["lora"])
    merged = Classifier(tmp_path / "out", provider="cpu")
    rows = [merged.encode(text, "lora", truncate=True) for text in TEXTS]
    found = np.stack([answer.logits for answer in merged.runner.run(rows)])
    np.testing.assert_allclose(found, np.stack(pytorch(runs["lora"], *TEXTS)), rtol=0, atol=1e-4)
    shapes = [(node.op_type, node.outputs[0].shape) for node in ir.load(tmp_path / "out" / "model.onnx").graph]
    narrow = Counter(name for name, shape in shapes if shape is not None and len(shape) == 3 and shape[1] == 1)
    expected = OF_ONE_TOKEN[merged.bundle.manifest.base["model_type"]]
    assert {name: narrow[name] for name in expected} == expected


def test_an_adapter_is_loaded_into_a_bank_of_others(export: Export, tmp_path: Path) -> None:
    base = make_decoder(tmp_path / "base", "llama", num_hidden_layers=1)
    export("bank", mixture(tmp_path / "lora", base, kind="lora"), slots=1)
    pairs = mixture(tmp_path / "pairs", base, kind="lora", max_length=60, task="pair-classification", seed=3)
    export("adapter", pairs, out="adapter")
    bank = Classifier(tmp_path / "out", provider="cpu")
    bank.load(tmp_path / "adapter")
    (found,) = bank([PAIR], adapter="pairs")
    np.testing.assert_allclose(found.logits, pytorch(pairs, PAIR)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "t5"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_stay_within_their_bounds(family: str, precision: str, export: Export, tmp_path: Path) -> None:
    """Matrices are large enough to be quantised, and weights small enough for labels to survive it."""
    sizes = dict.fromkeys(WIDTHS[family], 64)
    scale = {"initializer_factor": 1.0} if family == "t5" else {"initializer_range": 0.05}
    base = make_decoder(tmp_path / "base", family, **sizes, **scale, **{DEPTH[family]: 1})
    run = mixture(tmp_path / "tone", base, kind="lora", max_length=60)
    reports = export("bank", run, precision=precision)
    assert reports["tone"].max_difference > 1e-6, "the graph is in another precision"
    rows = np.stack([one.logits for one in Classifier(tmp_path / "out", provider="cpu")(TEXTS[:3])])
    assert np.abs(rows - np.stack(pytorch(run, *TEXTS[:3]))).max() < 1
