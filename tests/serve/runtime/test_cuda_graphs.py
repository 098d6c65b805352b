"""Numbers of captured runs, as ONNX Runtime reads them from the options of a run."""

import itertools

import onnxruntime as ort
import pytest

from serve.runtime.cuda_graphs import CapturedRuns, captured_size


def number(options: ort.RunOptions) -> str:
    return str(options.get_run_config_entry("gpu_graph_id"))


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (64, 64), (65, None)])
def test_a_batch_takes_the_smallest_size_that_has_room(rows: int, size: int | None) -> None:
    assert captured_size(rows) == size


def test_a_run_keeps_its_number_until_memory_moves() -> None:
    runs = CapturedRuns()
    assert [number(runs.options_for(key)) for key in (8, 1, 8)] == ["0", "1", "0"]
    runs.forget()
    assert number(runs.options_for(8)) == "2"


def test_runs_over_one_session_share_no_number() -> None:
    numbers = itertools.count()
    one, other = CapturedRuns(numbers), CapturedRuns(numbers)
    assert [number(runs.options_for(1)) for runs in (one, other, one)] == ["0", "1", "0"]


def test_a_run_that_is_not_captured_says_so() -> None:
    assert number(CapturedRuns().eager) == "-1"
