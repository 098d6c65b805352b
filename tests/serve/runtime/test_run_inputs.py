"""Inputs of a run, read back by a graph that returns what it is given."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from serve.runtime.device_memory import CUDA_DEVICE, HOST
from serve.runtime.providers import CPU, CUDA
from serve.runtime.run_inputs import INPUTS, DeviceInputs, RunInputs
from tests.fixtures.device_seam import FakeCudaRuntime

NAMES = ["ids", "slots"]
ARRAYS = {"ids": np.arange(6).reshape(2, 3), "slots": np.array([7, 9])}


def echo(provider: str) -> ort.InferenceSession:
    """Return a graph whose outputs are its inputs."""
    dims = {"ids": ["rows", "tokens"], "slots": ["rows"]}
    edges = [helper.make_tensor_value_info(name, TensorProto.INT64, dims[name]) for name in NAMES]
    results = [helper.make_tensor_value_info(f"{name}.same", TensorProto.INT64, dims[name]) for name in NAMES]
    nodes = [helper.make_node("Identity", [name], [f"{name}.same"]) for name in NAMES]
    graph = helper.make_graph(nodes, "echo", edges, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=[provider])


def run(session: ort.InferenceSession, inputs: RunInputs, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    binding = session.io_binding()
    inputs.bind(binding, arrays)
    for name in NAMES:
        binding.bind_output(f"{name}.same")
    session.run_with_iobinding(binding)
    found: list[np.ndarray] = binding.copy_outputs_to_cpu()
    return found


@pytest.mark.parametrize(
    ("kind", "device", "provider"),
    [
        pytest.param(HOST, HOST, CPU, id="host"),
        pytest.param("over addresses", HOST, CPU, id="addresses of the host"),
        pytest.param(CUDA_DEVICE, CUDA_DEVICE, CUDA, id="GPU", marks=pytest.mark.gpu),
    ],
)
def test_a_graph_reads_the_arrays_that_are_bound(kind: str, device: str, provider: str) -> None:
    inputs = (INPUTS | {"over addresses": DeviceInputs})[kind](device)
    session = echo(provider)
    for arrays in (ARRAYS, {"ids": np.arange(600).reshape(2, 300).T[:2, :2], "slots": np.array([1, 2])}, ARRAYS):
        for name, found in zip(NAMES, run(session, inputs, arrays), strict=True):
            np.testing.assert_array_equal(found, arrays[name])


def test_all_arrays_arrive_in_one_copy_at_the_same_addresses(device_paths: FakeCudaRuntime) -> None:
    inputs = INPUTS[HOST](HOST)
    places = []

    class Binding:
        """Takes down where inputs lie."""

        def bind_input(self, name: str, *memory: object) -> None:
            places.append((name, memory[-1]))

    for _ in range(2):
        inputs.bind(Binding(), ARRAYS)  # type: ignore[arg-type]
    assert device_paths.copies == [(512, 1)] * 2
    assert places[:2] == places[2:]
    assert places[1][1] - places[0][1] == 256  # type: ignore[operator]
