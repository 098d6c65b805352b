from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from adamix_export.tracing.conv1d import Product
from tests.adamix_export.conftest import Export
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import mixture

LAYERS, PRODUCTS = 2, 4
"""Of the tiny model, and the linear layers of each."""


def test_the_product_is_that_of_the_layer() -> None:
    layer, x = Conv1D(3, 5), torch.randn(2, 4, 5)
    torch.testing.assert_close(Product(layer)(x), layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_a_decoder_of_such_layers_has_all_its_matrices_in_fp16(shape: str, tmp_path: Path, export: Export) -> None:
    graph = exported("fp16", shape, tmp_path, export)
    assert Counter(node.op_type for node in graph.node)["Gemm"] == 0
    large = [tensor for tensor in graph.initializer if len(tensor.dims) == 2 and min(tensor.dims) >= 64]
    assert len(large) >= LAYERS * PRODUCTS
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}


@pytest.mark.slow
def test_a_decoder_of_such_layers_is_quantized(tmp_path: Path, export: Export) -> None:
    operators = Counter(node.op_type for node in exported("int4", "merged", tmp_path, export).node)
    assert operators["MatMulNBits"] >= LAYERS * PRODUCTS
    assert not operators["Gemm"]


def exported(precision: str, shape: str, folder: Path, export: Export) -> onnx.GraphProto:
    base = make_writer(folder / "base", "gpt2", vocab_size=96, n_embd=64)
    writes = {"task": "generation", "max_length": 24, "max_new_tokens": 6}
    export(shape, mixture(folder / "run", base, kind="lora", **writes), precision=precision)
    return onnx.load(folder / "out" / "model.onnx", load_external_data=False).graph
