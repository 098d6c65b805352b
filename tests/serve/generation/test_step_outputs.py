"""What is read of a step's outputs, and what of them is copied from a device."""

import ctypes

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.graph_io import LOGITS, NEXT_LOGITS, NEXT_TOKENS
from serve.bundle.manifest import Edge
from serve.generation.step_outputs import OUTPUTS, DeviceOutputs, StepOutputs, step_logits
from serve.runtime.device_memory import HOST
from tests.fixtures.device_seam import FakeCudaRuntime

VOCABULARY = 5
LOGITS_EDGE = Edge(name=LOGITS, dtype="tensor(float)", shape=["batch", 1, VOCABULARY])
NEXT_EDGES = [
    Edge(name=NEXT_TOKENS, dtype="tensor(int64)", shape=["batch", 1]),
    Edge(name=NEXT_LOGITS, dtype="tensor(float)", shape=["batch", 1]),
]
ARRAY = np.array([[1, 9, 3, 0, 2], [7, 2, np.inf, 0, 1], [0, 0, 0, 4, 0]], np.float32)


class Binding:
    """Writes into the outputs that are bound, as a run would."""

    def __init__(self, tokens: list[int]) -> None:
        self.found = {
            LOGITS: ARRAY[:, None],
            NEXT_TOKENS: np.array(tokens)[:, None],
            NEXT_LOGITS: ARRAY[range(3), tokens][:, None],
        }

    def bind_ortvalue_output(self, name: str, value: ort.OrtValue) -> None:
        written = np.ascontiguousarray(self.found[name])
        ctypes.memmove(value.data_ptr(), written.ctypes.data, written.nbytes)


def outputs(kind: type[StepOutputs], edges: list[Edge], tokens: list[int]) -> StepOutputs:
    made = kind(edges, 3, HOST)
    made.bind(Binding(tokens))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("kind", [OUTPUTS[HOST], DeviceOutputs])
def test_the_likeliest_tokens_are_those_of_the_logits(kind: type[StepOutputs]) -> None:
    found = outputs(kind, [LOGITS_EDGE], [1, 2, 3]).logits(3)
    assert found.likeliest.tolist() == [1, 2, 3]
    assert found.is_finite.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.all(), ARRAY)
    np.testing.assert_array_equal(found.read([2, 0]), ARRAY[[2, 0]])


def test_the_graphs_own_choice_is_taken_and_the_logits_stay(device_paths: FakeCudaRuntime) -> None:
    made = outputs(OUTPUTS[HOST], [LOGITS_EDGE, *NEXT_EDGES], [1, 2, 3])
    found = made.logits(2)
    assert (found.likeliest.tolist(), found.is_finite.tolist()) == ([1, 2], [True, False])
    assert device_paths.copies == [(2 * 8, 1), (2 * 4, 1)]
    np.testing.assert_array_equal(found.read([1]), ARRAY[[1]])
    assert device_paths.copies[2:] == [(VOCABULARY * 4, 1)]


def test_logits_that_are_not_numbers_are_not_finite() -> None:
    assert step_logits(np.full((1, 3), np.nan, np.float32)).is_finite.tolist() == [False]
