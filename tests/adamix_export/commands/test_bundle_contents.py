from collections import Counter
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from adamix_export.commands.bundle_contents import all_graphs, inspect_bundle
from serve.errors import BundleError
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow


def test_what_is_in_a_bundle_is_what_is_on_disk(export: Export, houlsby: Path, lora: Path, tmp_path: Path) -> None:
    export("bank", f"tone={houlsby}", f"start={lora}")
    contents = inspect_bundle(tmp_path / "out")
    on_disk = {
        str(file.relative_to(tmp_path / "out")): file.stat().st_size
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert contents.sizes == on_disk
    (graph,) = contents.graphs
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert sum(graph.ops.values()) == graph.nodes == len(model.graph.node)
    assert graph.ops["com.microsoft.MultiHeadAttention"] == 2
    assert graph.ops["MatMul"] == Counter(node.op_type for node in model.graph.node)["MatMul"]
    assert sum(graph.parameters.values()) == sum(
        onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer
    )
    data = contents.as_dict()
    assert [card["name"] for card in data["adapters"]] == ["tone", "start"]
    assert data["parity"]["tone"]["passed"]
    assert data["bytes"] == sum(on_disk.values())


def test_operators_in_branches_are_counted() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "then", [], [helper.make_tensor_value_info("y", 1, [1])]
    )
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [])
    assert [node.op_type for each in all_graphs(graph) for node in each.node] == ["If", "Identity", "Identity"]


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        inspect_bundle(tmp_path)
