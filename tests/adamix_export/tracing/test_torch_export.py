import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from adamix_export.errors import ExportError
from adamix_export.tracing.torch_export import Shapes, write_onnx
from serve.bundle.graph_io import BATCH, LABELS, MAX_LENGTH, SEQUENCE, SLOTS, SOURCE, TOTAL

ALL_SYMBOLS: Shapes = {
    "input_ids": (BATCH, SEQUENCE),
    "attention_mask": (BATCH, TOTAL),
    "source_mask": (BATCH, SOURCE),
    "past.key": (BATCH, 2, MAX_LENGTH, 4),
    "bank.down": (SLOTS, 16, "lora_r"),
    "bank.up": (SLOTS, "houlsby_r", 16),
    "bank.other": (SLOTS, "pfeiffer_r", LABELS),
}


class Picked(nn.Module):
    """Sums a row's embeddings and multiplies by the matrix that the row names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        states = self.embedding(tensors["input_ids"]).sum(1, keepdim=True)
        return torch.bmm(states, tensors["bank.weight"].index_select(0, tensors["adapter_ids"])).squeeze(1)


@pytest.mark.slow
def test_a_written_graph_gives_pytorchs_results_at_sizes_it_was_not_traced_at(tmp_path: Path) -> None:
    shapes: Shapes = {
        "input_ids": (BATCH, SEQUENCE),
        "adapter_ids": (BATCH,),
        "bank.weight": (SLOTS, 16, "lora_r"),
    }
    torch.manual_seed(0)
    module, file = Picked().eval(), tmp_path / "model.onnx"
    write_onnx(module, shapes, outputs=["scores"], floats=("bank.",), file=file)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {value.name: tuple(value.shape) for value in session.get_inputs()} == shapes
    assert [value.name for value in session.get_outputs()] == ["scores"]
    assert file.with_name("model.onnx.data").stat().st_size >= 50 * 16 * 4, "the weights are beside the graph"
    for rows, length, slots, rank in ((1, 1, 2, 1), (4, 30, 6, 50)):
        feeds = {
            "input_ids": torch.randint(50, (rows, length)),
            "adapter_ids": torch.randint(slots, (rows,)),
            "bank.weight": torch.randn(slots, 16, rank),
        }
        (found,) = session.run(None, {name: value.numpy() for name, value in feeds.items()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, module(feeds).numpy(), rtol=1e-4, atol=1e-4)


def fails(error: BaseException, cause: BaseException) -> Any:
    """An exporter that fails for a reason."""

    def export(*_: object, **__: object) -> None:
        raise error from cause

    return export


def test_example_sizes_are_told_apart_and_never_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes a dimension of one for a constant, and may take two of a size for one."""
    given: dict[str, Any] = {}

    def export(module: nn.Module, **options: Any) -> None:
        given.update(options)
        raise torch.onnx.OnnxExporterError

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ExportError):
        write_onnx(nn.Identity(), ALL_SYMBOLS, outputs=[], floats=("past.", "bank."), file=tmp_path / "model.onnx")
    examples = given["kwargs"]["tensors"]
    sizes: dict[str, set[int]] = {}
    for name, shape in ALL_SYMBOLS.items():
        for size, dim in zip(examples[name].shape, shape, strict=True):
            if isinstance(dim, str):
                sizes.setdefault(dim, set()).add(size)
            else:
                assert size == dim
    flat = [size for found in sizes.values() for size in found]
    assert len(flat) == len(set(flat)) == len(sizes) == 10
    assert min(flat) > 1
    floats = {name for name, example in examples.items() if example.dtype == torch.float32}
    assert floats == {"past.key", "bank.down", "bank.up", "bank.other"}
    assert all(examples[name].dtype == torch.int64 for name in examples.keys() - floats)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (ExportError("Layer is causal attention"), "^Layer is causal attention$"),
        (ValueError("no such operator\nat line 1"), "^torch cannot export this model's graph: no such operator$"),
    ],
)
def test_the_error_of_an_export_is_its_cause(
    cause: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the exporter logs is heard again afterwards."""
    caplog.set_level(logging.INFO, "torch.onnx")
    monkeypatch.setattr(torch.onnx, "export", fails(torch.onnx.OnnxExporterError("pages of advice"), cause))
    with pytest.raises(ExportError, match=message):
        write_onnx(nn.Identity(), {"x": (BATCH,)}, outputs=["y"], floats=(), file=tmp_path / "model.onnx")
    assert logging.getLogger("torch.onnx").level == logging.INFO
    assert not list(tmp_path.iterdir())
