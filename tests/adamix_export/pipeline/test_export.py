from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import peft
import pytest
import torch
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import ExportError, ParityError
from adamix_train.artifacts.checkpoint import read_card
from adamix_train.base_model.load import load_classifier
from serve.bundle.adapter import Adapter
from serve.bundle.reader import open_bundle, with_adapters
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from tests.adamix_export.conftest import Export, trained
from tests.adamix_train.conftest import make_base

pytestmark = pytest.mark.slow

TEXTS = ["the parcel was lovely", "a shop was broken", "my parcel", "bad", "it is great great great great"]


def pytorch(checkpoint: Path, base: Path) -> np.ndarray:
    """Logits of the checkpoint as PEFT loads it, each text by itself."""
    card = read_card(checkpoint)
    model = peft.PeftModel.from_pretrained(load_classifier(base, card.labels), checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in TEXTS])


def served(bundle: Path, adapter: str) -> np.ndarray:
    return np.stack([answer.logits for answer in Classifier(bundle, provider="cpu")(TEXTS, adapter=adapter)])


@pytest.mark.parametrize("shape", ["merged", "bank"])
@pytest.mark.parametrize("kind", ["houlsby", "lora"])
def test_a_bundle_answers_as_pytorch(
    shape: str, kind: str, export: Export, tiny_base: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkpoint = request.getfixturevalue(kind)
    reports = export(shape, checkpoint)
    np.testing.assert_allclose(served(tmp_path / "out", kind), pytorch(checkpoint, tiny_base), atol=1e-4)
    assert reports[kind].passed
    assert reports[kind].pytorch == pytest.approx(read_card(checkpoint).metrics["test_accuracy"])


@pytest.mark.slow
def test_a_bank_of_both_kinds_answers_as_its_merged_exports(
    export: Export, houlsby: Path, lora: Path, tmp_path: Path
) -> None:
    export("bank", houlsby, lora, out="bank")
    export("merged", houlsby, out="houlsby")
    export("merged", lora, out="lora")
    bank = Classifier(tmp_path / "bank", provider="cpu")
    mixed = bank([text for text in TEXTS for _ in range(2)], adapter=["houlsby", "lora"] * len(TEXTS))
    for offset, name in enumerate(("houlsby", "lora")):
        together = np.stack([answer.logits for answer in mixed[offset::2]])
        np.testing.assert_allclose(together, served(tmp_path / name, name), atol=1e-4)
        merged = open_bundle(tmp_path / name).adapters[name].card
        assert merged.sha256 == bank.cards[name].sha256, "both answers name the same adapter"


def test_the_zero_slot_of_a_bank_is_the_base(export: Export, houlsby: Path, tiny_base: Path, tmp_path: Path) -> None:
    """With the zero adapter the hidden states are the base's: seen by giving its slot the head of another one."""
    export("bank", houlsby)
    classifier = Classifier(tmp_path / "out", provider="cpu")
    assert classifier.bank is not None
    tone = classifier.bundle.adapters["houlsby"]
    slot = classifier.bank.slots[tone.card.sha256]
    for name, stack in classifier.bank.stacks.items():
        if ".head." in name:
            stack[0] = stack[slot]
    base = Adapter(replace(tone.card, sha256="base"), {})
    classifier.bank.slots["base"] = 0
    rows = [classifier.tokenizer.encode(text, base, truncate=True) for text in TEXTS]
    found = np.stack(classifier.runner.logits(rows))
    model = load_classifier(tiny_base, ["negative", "positive"]).eval()
    adapter = tone.tensors
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(adapter["classifier.head.weight"]))
        model.classifier.bias.copy_(torch.from_numpy(adapter["classifier.head.bias"]))
    with torch.inference_mode():
        expected = [model(input_ids=torch.tensor([row.input_ids])).logits.numpy() for row in rows]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)


@pytest.mark.slow
def test_a_standalone_adapter_serves_from_another_bank(
    export: Export, houlsby: Path, lora: Path, tiny_base: Path, tmp_path: Path
) -> None:
    export("adapter", f"mine={houlsby}", out="mine")
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == ["adapter.json", "adapter.safetensors"]
    export("bank", houlsby, lora, out="bank")
    bundle = with_adapters(open_bundle(tmp_path / "bank"), [tmp_path / "mine"])
    found = np.stack([answer.logits for answer in Classifier(bundle, provider="cpu")(TEXTS, adapter="mine")])
    np.testing.assert_allclose(found, pytorch(houlsby, tiny_base), atol=1e-4)
    card = bundle.adapters["mine"].card
    assert card.parity["passed"]
    assert replace(card, name="houlsby", parity={}) == bundle.adapters["houlsby"].card, "as it is in a bank"


@pytest.mark.slow
def test_a_mixture_has_as_many_nodes_as_one_adapter(
    export: Export, houlsby: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    plain = trained(tmp_path / "plain", tiny_base, tiny_data, kind="houlsby", num_modules=1)
    export("merged", houlsby, out="mixture")
    export("merged", plain, out="single")
    ops = [
        Counter(node.op_type for node in onnx.load(tmp_path / name / "model.onnx", load_external_data=False).graph.node)
        for name in ("mixture", "single")
    ]
    assert ops[0] == ops[1]
    sizes = [(tmp_path / name / "model.onnx.data").stat().st_size for name in ("mixture", "single")]
    assert sizes[0] == sizes[1]


def test_attention_is_fused_and_lora_leaves_no_trace(export: Export, lora: Path, tmp_path: Path) -> None:
    export("merged", lora)
    model = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    ops = Counter(node.op_type for node in model.graph.node)
    assert (ops["Attention"], ops["MultiHeadAttention"]) == (1, 1), "the last layer's has queries of one token"
    assert ops["Softmax"] == 0
    # Four projections and two feed-forward layers in each of two layers, three of them inside the first layer's
    # attention; pooler and head may be Gemm.
    assert ops["MatMul"] + ops["Gemm"] == 2 * 6 - 3 + 2


def test_the_graph_runs_at_sizes_that_it_was_not_traced_at(export: Export, houlsby: Path, tmp_path: Path) -> None:
    export("bank", houlsby)
    classifier = Classifier(tmp_path / "out", provider="cpu")
    for count in (1, 2, 3, 17):
        for text in ("bad", "the " * 13):
            assert len(classifier([text] * count, adapter="houlsby")) == count


def test_an_export_that_does_not_agree_writes_nothing(export: Export, houlsby: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"logits differ by up to .* nothing was written"):
        export("merged", houlsby, tolerance=0.0, again=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", ["merged", "bank", "adapter"])
def test_a_wrong_weight_is_caught_and_nothing_is_written(
    shape: str, export: Export, houlsby: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collapse takes the first module instead of the mean: canary rows or parity must see it.

    It is in the graph of a merged export; that of a bank has no adapter's weights.
    """
    monkeypatch.setattr("adamix_train.mixture.projection.MixtureLinear.mean", lambda self: self.module(0))
    source = open_checkpoint(str(houlsby))
    wrong = source.adapter
    monkeypatch.undo()
    monkeypatch.setattr("adamix_export.checkpoint.importers.mixture.collapse_checkpoint", lambda *_: wrong)
    with pytest.raises((ParityError, BundleError), match="PyTorch"):
        export(shape, houlsby, fresh=shape == "merged", again=shape != "merged")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_forced(export: Export, houlsby: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="exists: give another folder, or --force"):
        export("merged", houlsby, again=True)
    export("merged", houlsby, force=True, again=True)
    open_bundle(tmp_path / "out")


def test_shapes_refuse_what_they_cannot_hold(export: Export, houlsby: Path, lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="shape merged takes one checkpoint, not 2; shape bank takes several"):
        export("merged", houlsby, lora, fresh=True)
    with pytest.raises(ExportError, match="shape adapter takes one checkpoint, not 2"):
        export("adapter", houlsby, lora, fresh=True)
    with pytest.raises(ExportError, match="two checkpoints are called houlsby: name them, NAME=FOLDER"):
        export("bank", houlsby, houlsby, fresh=True)


def test_a_bank_has_one_base(export: Export, houlsby: Path, tiny_data: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", seed=1)
    other = trained(tmp_path / "other", base, tiny_data, kind="houlsby")
    with pytest.raises(ExportError, match="other and houlsby were trained on different bases"):
        export("bank", houlsby, other, fresh=True)
