"""Operators that PyTorch holds as symbols without a result, run by ONNX Runtime as soon as a module emits them."""

from collections.abc import Mapping, Sequence

import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import Tensor

TYPES = {torch.float32: TensorProto.FLOAT, torch.int32: TensorProto.INT32}


def run_operator(
    name: str,
    inputs: Sequence[Tensor | None],
    attrs: Mapping[str, int | float],
    *,
    dtype: torch.dtype,
    shape: Sequence[int],
    version: int,
) -> Tensor:
    """Return the output of an operator; takes the place of `torch.onnx.ops.symbolic`."""
    given = {f"input{index}": value for index, value in enumerate(inputs) if value is not None}
    domain, _, op_type = name.rpartition("::")
    names = [f"input{index}" if value is not None else "" for index, value in enumerate(inputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["output"], domain=domain, **attrs)],
        op_type,
        [helper.make_tensor_value_info(key, TYPES[value.dtype], value.shape) for key, value in given.items()],
        [helper.make_tensor_value_info("output", TYPES[dtype], shape)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {key: value.detach().contiguous().numpy() for key, value in given.items()})
    assert output.shape == tuple(shape)
    return torch.from_numpy(output)
