"""What is read of a step's outputs, and what of them is copied from a device."""

import ctypes

import numpy as np
import onnxruntime as ort
import pytest

from serve.bundle.graph_io import (
    CANDIDATE_LOGITS,
    CANDIDATE_TOKENS,
    LOG_SUM_EXP,
    LOGITS,
    NEXT_LOGITS,
    NEXT_TOKENS,
)
from serve.bundle.manifest import Edge
from serve.generation.sampling.choice import Candidates, WholeRow
from serve.generation.step_outputs import OUTPUTS, DeviceOutputs, StepOutputs, step_logits
from serve.runtime.device_memory import HOST
from tests.fixtures.device_seam import FakeCudaRuntime

VOCABULARY = 5
LOGITS_EDGE = Edge(name=LOGITS, dtype="tensor(float)", shape=["batch", 1, VOCABULARY])
NEXT_EDGES = [
    Edge(name=NEXT_TOKENS, dtype="tensor(int64)", shape=["batch", 1]),
    Edge(name=NEXT_LOGITS, dtype="tensor(float)", shape=["batch", 1]),
]
CANDIDATE_EDGES = [
    Edge(name=CANDIDATE_TOKENS, dtype="tensor(int64)", shape=["batch", 1, 2]),
    Edge(name=CANDIDATE_LOGITS, dtype="tensor(float)", shape=["batch", 1, 2]),
    Edge(name=LOG_SUM_EXP, dtype="tensor(float)", shape=["batch", 1]),
]
ARRAY = np.array([[1, 9, 3, 0, 2], [7, 2, np.inf, 0, 1], [0, 0, 0, 4, 0]], np.float32)


class Binding:
    """Writes into the outputs that are bound, as a run would."""

    def __init__(self, tokens: list[int]) -> None:
        self.found = {
            LOGITS: ARRAY[:, None],
            NEXT_TOKENS: np.array(tokens)[:, None],
            NEXT_LOGITS: ARRAY[range(3), tokens][:, None],
            CANDIDATE_TOKENS: np.argsort(-ARRAY)[:, None, :2],
            CANDIDATE_LOGITS: -np.sort(-ARRAY)[:, None, :2],
            LOG_SUM_EXP: np.array([[9.1], [np.inf], [4.2]], np.float32),
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


def test_candidates_come_before_the_whole_row_and_those_of_a_step_in_one_copy_each(
    device_paths: FakeCudaRuntime,
) -> None:
    found = outputs(OUTPUTS[HOST], [LOGITS_EDGE, *NEXT_EDGES, *CANDIDATE_EDGES], [1, 2, 3]).logits(3)
    assert device_paths.copies == [(3 * 8, 1), (3 * 4, 1)], "a greedy step reads none of them"
    rows = found.known(0)
    candidates = next(rows)
    assert isinstance(candidates, Candidates)
    assert (candidates.tokens.tolist(), candidates.logits.tolist(), candidates.others) == ([1, 2], [9, 3], 3)
    assert candidates.log_sum_exp == pytest.approx(9.1)
    other = next(found.known(2))
    assert isinstance(other, Candidates) and other.logits.max() == 4
    assert device_paths.copies[2:] == [(3 * 2 * 8, 1), (3 * 2 * 4, 1), (3 * 4, 1)]
    whole = next(rows)
    assert isinstance(whole, WholeRow) and whole.logits.tolist() == ARRAY[0].tolist()
    assert device_paths.copies[5:] == [(VOCABULARY * 4, 1)]


@pytest.mark.parametrize("edges", [[LOGITS_EDGE], [LOGITS_EDGE, *NEXT_EDGES]], ids=["logits", "likeliest"])
def test_older_bundles_give_the_whole_row(edges: list[Edge], device_paths: FakeCudaRuntime) -> None:
    (row,) = outputs(OUTPUTS[HOST], edges, [1, 2, 3]).logits(3).known(2)
    assert isinstance(row, WholeRow) and row.logits.tolist() == ARRAY[2].tolist()


def test_logits_that_are_not_numbers_are_not_finite() -> None:
    assert step_logits(np.full((1, 3), np.nan, np.float32)).is_finite.tolist() == [False]
