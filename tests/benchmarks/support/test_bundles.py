import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from benchmarks.support import bundles, data
from benchmarks.support.bundles import adapter_bytes, exported, in_int8, like, merged_model, sentences, trained
from benchmarks.support.errors import BenchmarkError
from serve.bundle.adapter import Adapter
from serve.bundle.reader import open_bundle, with_adapters
from serve.classification.classifier import Classifier
from tests.adamix_train.conftest import make_base, make_writer
from tests.fixtures.generation_banks import generative_checkpoint
from tests.fixtures.random_checkpoints import make_encoder, mixture
from tests.serve.conftest import card


def test_sentences_are_those_of_the_test_set_and_then_of_the_validation_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    with pytest.raises(BenchmarkError, match=r"test.tsv is missing: set ADAMIX_DATA"):
        sentences(3)
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "test.tsv").write_text("one two\t0\nthree\t1\n")
    (tmp_path / "sst2" / "dev.tsv").write_text("four\t1\nfive\t0\n")
    assert sentences(3) == ["one two", "three", "four"]


@pytest.mark.slow
def test_adapters_like_another_pass_the_checks_of_loading(tmp_path: Path) -> None:
    run = mixture(tmp_path / "mood", make_encoder(tmp_path / "base", "bert"), kind="lora")
    bundle = exported([open_checkpoint(str(run))], "bank", tmp_path / "bank")
    classifier = Classifier(with_adapters(bundle, like(bundle, 3, tmp_path / "many")), provider="cpu")
    answers = classifier(["good"] * 3, adapter=["a0", "a1", "a2"])
    assert len({answer.sha256 for answer in answers}) == 3
    assert len({answer.logits.tobytes() for answer in answers}) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "r"), [("lora", 8), ("houlsby", 48)])
def test_a_mixture_of_each_kind_is_trained_on_the_tone_of_voice(
    kind: str, r: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "sample_model", lambda name: make_base(tmp_path / name, seed=0))
    for field, value in {"epochs": 1, "train_limit": 32, "max_length": 16}.items():
        monkeypatch.setitem(bundles.RUN, field, value)
    source = trained(kind, tmp_path / "run")
    assert (source.kind, source.r, source.num_modules) == (kind, r, 4)
    assert sorted(source.labels) == ["negative", "positive"]
    assert {Path(file).name for file in source.card.data} == {"train.csv", "test.csv"}
    assert all(tensor.any() for name, tensor in source.adapter.items() if name.endswith(f"{kind}.up.weight"))


@pytest.mark.slow
def test_a_bundle_in_int8_answers_nearly_as_its_own_in_fp32(tmp_path: Path) -> None:
    base = make_encoder(tmp_path / "base", "bert", hidden_size=64, intermediate_size=128, num_hidden_layers=1)
    source = open_checkpoint(str(mixture(tmp_path / "mood", base, kind="lora")))
    whole = exported([source], "merged", tmp_path / "whole")
    small = in_int8(whole, tmp_path / "small")
    assert (small.manifest.precision, open_bundle(tmp_path / "whole").manifest.precision) == ("int8", "fp32")
    types = {node.op_type for node in onnx.load(small.model, load_external_data=False).graph.node}
    assert "MatMulIntegerToFloat" in types
    texts = ["the parcel was good", "my shop is awful", "it was fine"]
    exact, found = (
        np.stack([one.logits for one in Classifier(bundle, provider="cpu")(texts)]) for bundle in (whole, small)
    )
    assert 0 < np.abs(exact - found).max() < 0.1 * np.abs(exact).max()


def test_a_merged_model_is_a_stock_one_with_the_logits_of_the_checkpoint(tmp_path: Path) -> None:
    run = mixture(tmp_path / "mood", make_encoder(tmp_path / "base", "bert"), kind="lora")
    source = open_checkpoint(str(run))
    merged = merged_model(source, tmp_path / "merged")
    model = AutoModelForSequenceClassification.from_pretrained(merged).eval()
    assert type(model).__name__ == "BertForSequenceClassification"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert tokenizer.get_vocab() == source.tokenizer.get_vocab()
    rows = tokenizer(["the parcel was good", "bad"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(model(**rows).logits, source.reference(**rows).logits)
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(model.state_dict()[query], source.base_model().state_dict()[query], atol=0.01)


def test_the_rotary_base_of_a_merged_model_is_where_both_versions_of_transformers_look(
    tmp_path: Path, writing_data: Path
) -> None:
    rope = {"rope_type": "default", "rope_theta": 5000.0}
    base = make_writer(tmp_path / "base", "llama", rope_parameters=rope)
    run = generative_checkpoint(tmp_path / "menu", base, writing_data, kind="lora")
    merged = merged_model(open_checkpoint(str(run)), tmp_path / "merged")
    assert json.loads((merged / "config.json").read_text())["rope_theta"] == 5000.0
    assert AutoConfig.from_pretrained(merged).rope_parameters["rope_theta"] == 5000.0


def test_an_adapter_weighs_four_bytes_a_weight() -> None:
    tensors = {"a.lora.down.weight": np.zeros((2, 3), np.float32), "classifier.head.bias": np.zeros(5, np.float32)}
    assert adapter_bytes(Adapter(card("tone"), tensors)) == (2 * 3 + 5) * 4
