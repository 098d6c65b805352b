"""CUDA graphs: runs of one shape over the same memory are captured once, and replayed without launching each kernel.

ONNX Runtime captures and replays by the number in a run's options. A session that was opened for it captures every run,
unless its options say otherwise.
"""

import itertools
from collections.abc import Hashable, Iterator

import onnxruntime as ort

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Batch sizes whose runs are captured; a batch between two of them is padded with rows that are not read."""
OPTION = "gpu_graph_id"
"""Name of a run option: the number of its captured graph."""
NOT_CAPTURED = "-1"
CAPTURING = {"enable_cuda_graph": "1"}
"""Options of the CUDA provider that make a session capture its runs."""


def captured_size(rows: int) -> int | None:
    """Return the smallest captured batch size that has room for `rows`, or None if there is none."""
    return next((size for size in SIZES if rows <= size), None)


class CapturedRuns:
    """Run options by whatever tells one captured run from another."""

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        """Begin with none; `numbers` is shared by all that run the same session, and None counts from 0."""
        self.options: dict[Hashable, ort.RunOptions] = {}
        self.numbers = itertools.count() if numbers is None else numbers
        self.eager = run_options(NOT_CAPTURED)
        """Options of a run that is neither captured nor replayed."""

    def options_for(self, key: Hashable) -> ort.RunOptions:
        """Return the options of a run; the first run with them is captured, the others replay it."""
        if key not in self.options:
            self.options[key] = run_options(str(next(self.numbers)))
        return self.options[key]

    def forget(self) -> None:
        """Capture all runs anew: memory that they read or write has moved."""
        self.options = {}


def run_options(number: str) -> ort.RunOptions:
    """Return the options of a run with the number of its captured graph."""
    options = ort.RunOptions()
    options.add_run_config_entry(OPTION, number)
    return options
