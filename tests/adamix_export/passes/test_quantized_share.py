from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adamix_export.passes.quantized_share import quantized_share


def write(file: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> Path:
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    edge = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [edge], [], held)), file)
    return file


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_values_of_integer_matrices_are_counted_by_their_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMulIntegerToFloat", ["x", "whole", "s", "scales"], ["a"]),
        helper.make_node("MatMulNBits", ["x", "half", "blocks"], ["b"], bits=4, K=8, N=5),
        helper.make_node("MatMul", ["x", "plain"], ["c"]),
        helper.make_node("Add", ["x", "bias"], ["d"]),
    ]
    file = write(
        tmp_path / "model.onnx",
        nodes,
        whole=np.zeros((6, 5), np.int8),
        scales=floats(5),
        half=np.zeros((5, 1, 4), np.uint8),
        blocks=floats(5, 1),
        plain=floats(6, 5),
        bias=floats(5),
    )
    assert quantized_share([file]) == pytest.approx((30 + 40) / (30 + 40 + 30))


def test_a_matrix_of_two_nodes_counts_once_and_files_are_added_up(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["shared", "shape"], ["flat"]),
        helper.make_node("GatherBlockQuantized", ["flat", "x", "scales"], ["a"], bits=8),
        helper.make_node("MatMulNBits", ["x", "shared", "scales"], ["b"], bits=8, K=8, N=5),
    ]
    quantized = write(
        tmp_path / "model.onnx",
        nodes,
        shared=np.zeros((5, 1, 8), np.uint8),
        scales=floats(5, 1),
        shape=np.array([5, -1]),
    )
    assert quantized_share([quantized]) == 1
    plain = write(tmp_path / "plain.onnx", [helper.make_node("MatMul", ["x", "w"], ["a"])], w=floats(10, 12))
    assert quantized_share([quantized, plain]) == pytest.approx(40 / 160)
    assert quantized_share([plain]) == 0
