"""A model of a Triton repository: its configuration by Triton's own schema, its graph in ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters import triton
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError, ParityError
from adamix_export.tasks.classification import logits
from benchmarks.support.errors import PeerError
from serve.adapters.bank import Bank
from tests.adamix_export.converters.peer import peer

pytestmark = pytest.mark.slow

PARSE = Path(__file__).with_name("triton_config.py")
TEXTS = ["the parcel was lovely", "a shop was broken", "my parcel", "bad"]


def parsed(model: Path, scratch: Path) -> dict:
    peer("triton").run(str(PARSE), model / "config.pbtxt", scratch / "config.json")
    return json.loads((scratch / "config.json").read_text())


def run(model: Path, tokenizer: Path, **feeds: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = AutoTokenizer.from_pretrained(tokenizer)(TEXTS, padding=True, return_tensors="np")
    return session.run(["logits"], {**inputs, **feeds})[0]


def test_a_merged_classifier_is_a_model_of_a_repository(merged: Path, lora: Path, tmp_path: Path) -> None:
    convert(merged, tmp_path / "start", "triton")
    config = parsed(tmp_path / "start", tmp_path)
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 32
    assert "dynamic_batching" in config
    session = ort.InferenceSession(tmp_path / "start" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert {tensor["name"] for tensor in config["input"]} == {value.name for value in session.get_inputs()}
    assert all(tensor["data_type"] == "TYPE_INT64" and tensor["dims"] == ["-1"] for tensor in config["input"])
    (output,) = config["output"]
    assert (output["name"], output["data_type"], output["dims"]) == ("logits", "TYPE_FP32", ["3"])
    labels = (tmp_path / "start" / output["label_filename"]).read_text().split()
    assert labels == open_checkpoint(str(lora)).card.labels
    np.testing.assert_allclose(
        run(tmp_path / "start", merged), logits(open_checkpoint(str(lora)), [(text,) for text in TEXTS]), atol=1e-5
    )


def test_a_bank_takes_a_number_for_every_row(bank: Path, houlsby: Path, lora: Path, tmp_path: Path) -> None:
    convert(bank, tmp_path / "both", "triton")
    config = parsed(tmp_path / "both", tmp_path)
    (ids,) = [tensor for tensor in config["input"] if tensor["name"] == "adapter_ids"]
    assert (ids["dims"], ids["reshape"]) == (["1"], {}), "a row's number, which the graph takes without a dimension"
    parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
    assert json.loads(parameters["start.labels"]) == ["a", "my", "the"]
    slots = [int(parameters[f"{name}.adapter_id"]) for name in ("tone", "start", "tone", "start")]
    found = run(tmp_path / "both", bank, adapter_ids=np.array(slots))
    tone, start = (
        logits(open_checkpoint(str(checkpoint)), [(text,) for text in TEXTS]) for checkpoint in (houlsby, lora)
    )
    np.testing.assert_allclose(found[::2, :2], tone[::2], atol=1e-5)
    np.testing.assert_allclose(found[1::2], start[1::2], atol=1e-5)


def test_the_schema_refuses_what_is_not_in_it(merged: Path, tmp_path: Path) -> None:
    convert(merged, tmp_path / "start", "triton")
    file = tmp_path / "start" / "config.pbtxt"
    file.write_text(file.read_text().replace("max_batch_size", "most_rows"))
    with pytest.raises(PeerError, match="most_rows"):
        parsed(tmp_path / "start", tmp_path)


def test_a_bank_that_does_not_answer_as_in_pytorch_is_not_written(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(Bank):
        def __init__(self, edges, adapters):
            super().__init__(edges, adapters[::-1])

    monkeypatch.setattr(triton, "Bank", Backwards)
    with pytest.raises(ParityError, match="does not give the logits that it gave in PyTorch"):
        convert(bank, tmp_path / "out", "triton")
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_is_refused(decoders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        ExportError,
        match=r"only bundles of task text-classification can be converted to Triton; .* task text-generation",
    ):
        convert(decoders["llama"], tmp_path / "out", "triton")
