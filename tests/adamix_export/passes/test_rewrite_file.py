from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from adamix_export.passes.nodes import DOMAIN
from adamix_export.passes.rewrite_file import derive_file, rewrite_file
from tests.adamix_export.passes.graphs import made, matrix, model_of, value

SIDE = 64
FILE = "model.onnx"


def write_product(folder: Path) -> np.ndarray:
    """Write x · weight with the weight as external data, and return the weight."""
    x, weight = value("x", "batch", SIDE), matrix("weight", SIDE, SIDE)
    product = made(x, weight, op_type="MatMul", shape=("batch", SIDE))
    product.outputs[0].name = "y"
    ir.save(model_of([x], [product.outputs[0]], product), folder / FILE, external_data=f"{FILE}.data")
    assert weight.const_value is not None
    return weight.const_value.numpy()


def use_relu(graph: ir.Graph) -> None:
    """Let the output be relu(x): the product and its weight are used no longer."""
    (x,) = graph.inputs
    relu = made(x, op_type="Relu", shape=("batch", SIDE))
    graph.append(relu)
    graph.outputs[0].name, relu.outputs[0].name = "old", "y"
    graph.outputs[0] = relu.outputs[0]


def negate(graph: ir.Graph) -> None:
    """Let the output be −x · weight."""
    (old,) = graph.outputs
    negation = made(old, op_type="Neg", shape=("batch", SIDE))
    graph.append(negation)
    old.name, negation.outputs[0].name = "product", "y"
    graph.outputs[0] = negation.outputs[0]


def refuse(graph: ir.Graph) -> None:
    raise ValueError(graph.name)


def run(file: Path, x: np.ndarray) -> np.ndarray:
    (y,) = ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    return y


def test_a_rewritten_file_computes_what_its_graph_says_with_the_weights_it_had(tmp_path: Path) -> None:
    weight = write_product(tmp_path)
    x = np.random.default_rng(1).normal(size=(2, SIDE)).astype(np.float32)
    rewrite_file(tmp_path / FILE, negate)
    np.testing.assert_allclose(run(tmp_path / FILE, x), -x @ weight, rtol=1e-5, atol=1e-5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, f"{FILE}.data"]
    assert ir.load(tmp_path / FILE).graph.opset_imports[DOMAIN] == 1


def test_nodes_and_weights_that_a_rewrite_leaves_unused_are_dropped(tmp_path: Path) -> None:
    write_product(tmp_path)
    rewrite_file(tmp_path / FILE, use_relu)
    graph = ir.load(tmp_path / FILE).graph
    assert [node.op_type for node in graph] == ["Relu"]
    assert not graph.initializers


def test_a_derived_file_reads_the_weights_of_the_first_which_stays_as_it_was(tmp_path: Path) -> None:
    weight = write_product(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    x = np.random.default_rng(1).normal(size=(2, SIDE)).astype(np.float32)
    derive_file(tmp_path / FILE, negate, tmp_path / "derived.onnx")
    np.testing.assert_allclose(run(tmp_path / "derived.onnx", x), -x @ weight, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "derived.onnx").stat().st_size < 1000 < weight.nbytes
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name in before} == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_rewrite_that_fails_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    write_product(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError):
        rewrite_file(tmp_path / FILE, refuse)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
