"""Runs of a classifier's graph: on the host as they come, on a device with bound memory and captured short batches."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.bundle.graph_io import ATTENTION_MASK, INPUT_IDS, LOGITS
from serve.runtime.cuda_graphs import CapturedRuns, captured_size
from serve.runtime.device_memory import CUDA_DEVICE, HOST
from serve.runtime.run_inputs import INPUTS, Arrays, RunInputs
from serve.runtime.session import captures_graphs

LENGTHS = (16, 32, 64, 128)
"""Tokens to which the rows of a captured batch are padded."""
CAPTURED_WORK = 2.0e9
"""Padded tokens x the square of the model's width, up to which a batch takes longer to launch than to compute.

On an H200, a layer took 0.4 ms to launch; in fp16 it took 0.2 ms to compute at 1.2e9 (MiniLM) and 0.5 ms at 8.6e9 (the
shape of RoBERTa-large). Up to here, padding to a captured shape costs less than the launches that it saves."""
UNKNOWN_WIDTH = 1024
"""Width of a model whose configuration names none."""
Stacks = Mapping[str, ort.OrtValue]
Logits = NDArray[np.float32]


class Executor(Protocol):
    """Runs of one session; callable from any thread."""

    def __init__(self, session: ort.InferenceSession, device: str, *, width: int | None = None) -> None:
        """Keep a session that runs on a kind of device, and the model's width."""

    def run(self, arrays: Arrays, stacks: Stacks) -> Logits:
        """Return logits (rows, widest label list) for token inputs (rows, tokens), slots (rows,) and stacks."""


class HostExecutor:
    """Runs on the CPU."""

    def __init__(self, session: ort.InferenceSession, device: str = HOST, *, width: int | None = None) -> None:
        self.session = session

    def run(self, arrays: Arrays, stacks: Stacks) -> Logits:
        """Return logits (rows, widest label list)."""
        feeds = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        outputs = self.session.run_with_ort_values(None, feeds | dict(stacks))
        logits: Logits = outputs[0].numpy()
        return logits


@dataclass(frozen=True)
class _BoundRun:
    binding: ort.IOBinding
    inputs: RunInputs


class DeviceExecutor:
    """Runs on a device; all inputs of a run arrive in one copy, and runs of short batches are captured."""

    def __init__(self, session: ort.InferenceSession, device: str, *, width: int | None = None) -> None:
        self.session, self.device, self.max_tokens = session, device, max_captured_tokens(width)
        self.captures, self.captured = captures_graphs(session), CapturedRuns()
        self.bound: dict[tuple[int, int], _BoundRun] = {}
        """Memory of captured runs by rows and tokens…"""
        self.stacks: Stacks | None = None
        """…which read these stacks."""
        self.turn = threading.Lock()
        """Held by the thread whose captured run is under way."""

    def run(self, arrays: Arrays, stacks: Stacks) -> Logits:
        """Return logits (rows, widest label list)."""
        rows, tokens = arrays[INPUT_IDS].shape
        shape = captured_shape(rows, tokens, self.max_tokens) if self.captures else None
        if shape is None:
            return self._run(self._bound(stacks, HOST), arrays, self.captured.eager)
        with self.turn:
            return self._replay(shape, padded(arrays, *shape), stacks)[:rows]

    def _replay(self, shape: tuple[int, int], arrays: Arrays, stacks: Stacks) -> Logits:
        if self.stacks is not stacks:
            self.bound, self.stacks = {}, stacks
            self.captured.forget()
        if shape not in self.bound:
            self.bound[shape] = self._bound(stacks, self.device)
        return self._run(self.bound[shape], arrays, self.captured.options_for(shape))

    def _run(self, run: _BoundRun, arrays: Arrays, options: ort.RunOptions) -> Logits:
        run.inputs.bind(run.binding, arrays)
        self.session.run_with_iobinding(run.binding, options)
        logits: Logits = run.binding.copy_outputs_to_cpu()[0]
        return logits

    def _bound(self, stacks: Stacks, output: str) -> _BoundRun:
        """Return a binding of the stacks, and of logits on the kind of device `output`."""
        run = _BoundRun(self.session.io_binding(), INPUTS[self.device](self.device))
        for name, value in stacks.items():
            run.binding.bind_ortvalue_input(name, value)
        run.binding.bind_output(LOGITS, output)
        return run


EXECUTORS: dict[str, type[Executor]] = {HOST: HostExecutor, CUDA_DEVICE: DeviceExecutor}
"""Executors by kind of device."""


def max_captured_tokens(width: int | None) -> int:
    """Return the padded tokens of the largest captured batch of a model of some width."""
    return int(CAPTURED_WORK / (width or UNKNOWN_WIDTH) ** 2)


def captured_shape(rows: int, tokens: int, max_tokens: int) -> tuple[int, int] | None:
    """Return rows and tokens of the captured batch that has room for a batch, or None if it is too large for one."""
    size, length = captured_size(rows), next((length for length in LENGTHS if tokens <= length), None)
    if size is None or length is None or size * length > max_tokens:
        return None
    return size, length


def padded(arrays: Arrays, rows: int, tokens: int) -> dict[str, NDArray[np.int64]]:
    """Return inputs for so many rows and tokens; the new rows attend to one token, the new tokens are masked."""
    wide = {}
    for name, array in arrays.items():
        wide[name] = np.zeros((rows, tokens)[: array.ndim], array.dtype)
        wide[name][tuple(slice(size) for size in array.shape)] = array
    wide[ATTENTION_MASK][len(arrays[ATTENTION_MASK]) :, 0] = 1
    return wide
