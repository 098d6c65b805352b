"""The distance of a decode step from the memory bandwidth: bytes read per second, against those of a copy.

A token of one row reads every weight once and little else, so that memory sets its pace. A step's bytes are those of
the weights that its operators read (of a table whose rows are gathered, those rows) and of the cache. A copy reads and
writes, and both count. It has as many threads as the engine, and its arrays are far larger than any processor's cache.
"""

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from benchmarks.support.generation_sides import Ours, exported, prompts, trained_writer
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal
from benchmarks.support.rounds import Call, Pace, Reported, Timings, measure
from serve.bundle.graph_io import PAST
from serve.bundle.reader import Bundle
from serve.limits import GenerationLimits
from serve.runtime.buffers import TYPES
from serve.runtime.providers import usable_cores

PRECISIONS = ("fp32", "int4")
ROWS = (1, 8)
PROMPT, NEW = 32, 32
SHARE = 0.6
"""Goal: this fraction of the copy's bandwidth, with one row."""
COPIED = 1 << 28
"""Bytes that each thread copies."""
COPY = "copy"
GATHERING = ("Gather", "GatherBlockQuantized")
BITS: dict[int, int] = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}
GB = 1e9


def measure_roofline(pace: Pace) -> Findings:
    """Time steps of both precisions, and copies, in turn."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(usable_cores()) as threads:
        source = trained_writer(Path(folder) / "run")
        bundles = {name: exported(source, name, "merged", Path(folder) / name) for name in PRECISIONS}
        cases: dict[str, dict[str, Call]] = {}
        moved = {}
        for precision, bundle in bundles.items():
            ours = Ours(bundle, GenerationLimits(max_batch_requests=max(ROWS), prefix_tokens=0))
            for rows in ROWS:
                job = {"rows": prompts(ours.generator, rows, PROMPT), "new": NEW}
                name = f"{precision}, {rows} rows"
                moved[name] = read_by_a_step(bundle, rows)
                cases[name] = {name: partial(_step, ours, job)}
        copy = copier(threads)
        cases = {name: {**sides, COPY: copy} for name, sides in cases.items()}
        timings = measure(cases, pace)
    return findings_of(timings, moved)


def read_by_a_step(bundle: Bundle, rows: int) -> int:
    """Return the bytes that a step of so many rows reads, halfway through the texts."""
    length = PROMPT + NEW // 2
    cache = [edge for edge in bundle.manifest.inputs if edge.name.startswith(PAST)]
    sizes = {"batch": rows, "max_length": length}
    states = sum(
        math.prod(dim if isinstance(dim, int) else sizes[dim] for dim in edge.shape) * TYPES[edge.dtype].itemsize
        for edge in cache
    )
    return weights_read(onnx.load(bundle.model, load_external_data=False), rows) + states


def weights_read(model: onnx.ModelProto, rows: int) -> int:
    """Return the bytes of the weights that a run over one token of each row reads."""
    graph = model.graph
    tables = {node.input[0] for node in graph.node if node.op_type in GATHERING}
    whole = {name for node in graph.node for name in node.input[node.op_type in GATHERING :]}
    total = 0.0
    for tensor in graph.initializer:
        if tensor.name in whole:
            total += _bytes(tensor)
        elif tensor.name in tables:
            total += _bytes(tensor) / tensor.dims[0] * rows
    return round(total)


def copier(threads: ThreadPoolExecutor) -> Callable[[], Reported]:
    """Return a call that copies memory on all cores."""
    pairs = [(np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)) for _ in range(usable_cores())]

    def copy() -> Reported:
        start = time.perf_counter()
        list(threads.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
        return Reported(time.perf_counter() - start)

    return copy


def findings_of(timings: Timings, moved: dict[str, int]) -> Findings:
    """Return the table and the goals."""
    rows = []
    for name, sides in timings.items():
        reached = moved[name] / sides[name].seconds
        copied = 2 * COPIED * usable_cores() / sides[COPY].seconds
        rows.append(
            {
                "case": name,
                "mb_a_step": moved[name] / 1e6,
                "ms_a_step": sides[name].seconds * 1e3,
                "gb_a_second": reached / GB,
                "copy_gb_a_second": copied / GB,
                "share": reached / copied,
                "noise": sides[name].noise,
            }
        )
    goals = [
        Goal(what=f"{row['case']}: bytes a second by those of a copy", value=float(str(row["share"])), goal=SHARE)
        for row in rows
        if str(row["case"]).endswith(" 1 rows")
    ]
    worst = min(goals, key=lambda goal: goal.value or 0)
    return Findings(
        goals=goals,
        rows=rows,
        versions=versions_of(("onnxruntime", "numpy", "onnx")),
        worst=f"{worst.value:.3f} ({worst.what})",
    )


def _step(ours: Ours, job: dict[str, object]) -> Reported:
    return Reported(ours.write(job)["decode"] / NEW)


def _bytes(tensor: onnx.TensorProto) -> float:
    kind = int(tensor.data_type)
    bits = BITS[kind] if kind in BITS else 8 * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    return math.prod(tensor.dims) * bits / 8


if __name__ == "__main__":
    main(Benchmark(name="roofline", claim=str(__doc__), measure=measure_roofline, rounds=9))
