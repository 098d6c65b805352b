from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.converters import onnx_adapter
from adamix_export.converters.onnx_adapter import parameters, write_adapter
from adamix_export.converters.table import convert
from adamix_export.errors import ExportError, ParityError
from adamix_export.tasks.classification import logits
from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Exports

pytestmark = pytest.mark.slow

TEXTS = ["the parcel was lovely", "a shop was broken", "my parcel", "bad", "it is great great great great"]


@pytest.fixture(scope="module")
def folder(bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "out"
    convert(bank, out, "onnx-adapter")
    return out


def run(folder: Path, adapter: str | None) -> np.ndarray:
    """Logits of the texts in one batch, as ONNX Runtime's documentation runs an adapter."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = ort.RunOptions()
    if adapter:
        active = ort.LoraAdapter()
        active.Load(str(folder / f"{adapter}.onnx_adapter"))
        options.add_active_adapter(active)
    return session.run(["logits"], dict(tokenizer(TEXTS, padding=True, return_tensors="np")), options)[0]


@pytest.mark.parametrize("name", ["tone", "start"])
def test_an_active_adapter_gives_the_logits_of_pytorch(name: str, folder: Path, houlsby: Path, lora: Path) -> None:
    """A LoRA, for which ONNX Runtime has the format, and a Houlsby adapter, of which it knows as little."""
    source = open_checkpoint(str({"tone": houlsby, "start": lora}[name]))
    np.testing.assert_allclose(run(folder, name), logits(source, [(text,) for text in TEXTS]), atol=1e-5)


def test_without_an_adapter_there_is_no_head(folder: Path) -> None:
    assert not run(folder, None).any()


def test_the_graph_takes_tokens_only_and_gathers_no_stack(folder: Path) -> None:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == {"input_ids", "attention_mask", "token_type_ids"}
    replaceable = {value.name for value in session.get_overridable_initializers()}
    assert "bert.encoder.layer.0.attention.self.query.lora.down.weight" in replaceable
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    onnx.checker.check_model(str(folder / "model.onnx"))
    assert not any(name in replaceable for node in model.graph.node if node.op_type == "Gather" for name in node.input)


def test_an_adapter_that_does_not_answer_as_in_pytorch_is_not_written(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(bundle, adapter):
        return {name: 2 * tensor for name, tensor in parameters(bundle, adapter).items()}

    monkeypatch.setattr(onnx_adapter, "parameters", doubled)
    with pytest.raises(ParityError, match="adapter tone does not give the logits that it gave in PyTorch"):
        convert(bank, tmp_path / "out", "onnx-adapter")
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_writes_through_its_adapter(exported: Exports, writers: dict[str, Path], tmp_path: Path) -> None:
    """Writing the target runs the canary rows; here without the adapter the logits are others."""
    bundle = exported("bank", f"task={writers['llama']}")
    convert(bundle, tmp_path / "out", "onnx-adapter")
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.array([[5, 7, 9]])
    past = {
        value.name: np.zeros((1, 1, 3, 16), np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), **past}
    active, options = ort.LoraAdapter(), ort.RunOptions()
    active.Load(str(tmp_path / "out" / "task.onnx_adapter"))
    options.add_active_adapter(active)
    assert np.abs(session.run(["logits"], feeds, options)[0] - session.run(["logits"], feeds)[0]).max() > 1e-2


def test_a_merged_bundle_has_no_adapter_to_take_out(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="whose adapter is in its weights: export it with --shape bank"):
        convert(merged, tmp_path / "out", "onnx-adapter")


def test_an_adapter_file_holds_what_was_put_in(bank: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bank)
    tensors = parameters(bundle, bundle.adapters["start"])
    write_adapter(tensors, tmp_path / "start.onnx_adapter")
    read = ort.AdapterFormat.read_adapter(str(tmp_path / "start.onnx_adapter")).get_parameters()
    assert read.keys() == tensors.keys()
    assert all(np.array_equal(read[name].numpy(), tensor) for name, tensor in tensors.items())
