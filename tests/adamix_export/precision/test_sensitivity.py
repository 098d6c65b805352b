from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from adamix_export.precision import sensitivity
from adamix_export.precision.calibration import CalibrationText, collect_channel_ranges
from adamix_export.precision.sensitivity import choose_ranges
from serve.bundle.graph_io import INPUT_IDS, LOGITS
from tests.adamix_export.passes.graphs import made, model_of

WIDTH, VOCABULARY = 64, 12
RANDOM = np.random.default_rng(0)
TEXTS = [CalibrationText(ids=[token, (token * 5) % VOCABULARY]) for token in range(VOCABULARY)]
"""Texts of two tokens; logits are those of both."""


def fixed(name: str, array: np.ndarray, dtype: type = np.float32) -> ir.Value:
    held = ir.Value(name=name, const_value=ir.tensor(array.astype(dtype), name=name))
    held.dtype, held.shape = held.const_value.dtype, ir.Shape(array.shape)
    return held


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph of four products in a row; the third reads one activation that hides the others from 8 bits."""
    ids = ir.Value(name=INPUT_IDS, shape=ir.Shape(("batch", "sequence")), type=ir.TensorType(ir.DataType.INT64))
    shape = ("batch", "sequence", WIDTH)
    nodes = [made(fixed("table", RANDOM.normal(size=(VOCABULARY, WIDTH))), ids, op_type="Gather", shape=shape)]
    for index in range(4):
        states = nodes[-1].outputs[0]
        states.name = f"states{index}"
        matrix = RANDOM.normal(size=(WIDTH, WIDTH)) / 8
        if index == 2:
            hiding = np.where(np.arange(WIDTH) == 0, 1000, 0)
            nodes.append(made(states, fixed("hiding", hiding), op_type="Add", shape=shape))
            states, matrix[0] = nodes[-1].outputs[0], 0
            states.name = "hidden"
        nodes.append(made(states, fixed(f"weight{index}", matrix), op_type="MatMul", shape=shape))
        nodes[-1].name = f"product{index}"
    last = made(nodes[-1].outputs[0], fixed("axes", np.array([1]), np.int64), op_type="ReduceMean", shape=shape)
    last.outputs[0].name, last.outputs[0].shape = LOGITS, ir.Shape(("batch", 1, WIDTH))
    ir.save(model_of([ids], [last.outputs[0]], *nodes, last), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_product_that_loses_the_most_stays_in_fp32(file: Path) -> None:
    assert collect_channel_ranges(file, TEXTS, None)["product2"][0] == pytest.approx(1000, rel=0.1)
    assert choose_ranges(file, TEXTS, None).keys() == {"product0", "product1", "product3"}
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"], "trials are removed"


@pytest.mark.parametrize("outlier", [1.0, 60.0])
def test_gelu_is_scaled_by_token_where_one_scale_for_all_loses_too_much(outlier: float, tmp_path: Path) -> None:
    """A token whose activations are all alike, and may be far larger than those of the others; its product is zero."""
    ids = ir.Value(name=INPUT_IDS, shape=ir.Shape(("batch", "sequence")), type=ir.TensorType(ir.DataType.INT64))
    shape = ("batch", "sequence", WIDTH)
    table, weight = RANDOM.normal(size=(VOCABULARY, WIDTH)), RANDOM.normal(size=(WIDTH, WIDTH))
    table[0], weight[1::2] = outlier, -weight[::2]
    states = made(fixed("table", table), ids, op_type="Gather", shape=shape)
    gelu = made(states.outputs[0], op_type="Gelu", shape=shape)
    gelu.domain = "com.microsoft"
    product = made(gelu.outputs[0], fixed("weight", weight), op_type="MatMul", shape=shape)
    product.name = "product"
    last = made(product.outputs[0], fixed("axes", np.array([1]), np.int64), op_type="ReduceMean", shape=shape)
    last.outputs[0].name, last.outputs[0].shape = LOGITS, ir.Shape(("batch", 1, WIDTH))
    model = model_of([ids], [last.outputs[0]], states, gelu, product, last)
    model.graph.opset_imports["com.microsoft"] = 1
    ir.save(model, tmp_path / "model.onnx")
    (channels,) = choose_ranges(tmp_path / "model.onnx", TEXTS, None).values()
    assert (channels is None) == (outlier > 1)


def test_all_are_quantized_where_that_loses_little(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "MAX_LOSS", 100.0)
    assert len(choose_ranges(file, TEXTS, None)) == 4


def test_half_of_the_products_are_quantized_at_least(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "MAX_LOSS", 0.0)
    assert len(choose_ranges(file, TEXTS, None)) == 2
