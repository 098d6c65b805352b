from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Export
from tests.adamix_export.precision.host_values import copies_of
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import mixture

WRITE = {"task": "generation", "max_length": 24, "max_new_tokens": 6}
FAMILIES = {"llama": "num_hidden_layers", "gpt2": "n_layer", "t5": "num_layers"}
"""Positions that the operator rotates, positions that the graph looks up, and a bias of positions; the field of the
number of layers, of which one has it all."""


def small_graph(*nodes: onnx.NodeProto, file: Path) -> Path:
    text = helper.make_tensor_value_info("text", TensorProto.INT64, ["rows", "tokens"])
    found = helper.make_tensor_value_info("found", TensorProto.INT64, None)
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [text], [found], [one])), file)
    return file


def test_a_size_that_is_data_is_found_and_one_that_is_a_shape_is_not(tmp_path: Path) -> None:
    size = [
        helper.make_node("Shape", ["text"], ["shape"], start=1, end=2),
        helper.make_node("Sub", ["shape", "one"], ["last"], name="sub"),
    ]
    data = small_graph(*size, helper.make_node("Min", ["text", "last"], ["found"], name="min"), file=tmp_path / "a")
    assert copies_of(data) == ["Min min reads last"]
    shape = small_graph(*size, helper.make_node("Expand", ["one", "last"], ["found"]), file=tmp_path / "b")
    assert copies_of(shape) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_no_decoder_computes_with_sizes_on_a_device(family: str, tmp_path: Path, export: Export) -> None:
    """A decoder's steps are captured in CUDA graphs, which have no copies between host and device."""
    base = make_writer(tmp_path / "base", family, vocab_size=96, **{FAMILIES[family]: 1})
    run = mixture(tmp_path / "run", base, kind="lora", **WRITE)
    export("bank", run, precision="fp16")
    bundle = open_bundle(tmp_path / "out")
    graphs = [name for name in bundle.manifest.files if name.endswith(".onnx")]
    assert graphs
    assert {name: copies_of(bundle.folder / name) for name in graphs} == {name: [] for name in graphs}
