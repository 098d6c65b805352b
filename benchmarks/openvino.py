"""The merged MiniLM graph of adamix-export against OpenVINO's of the same model, in fp32 and in int8.

Both sides have the same number of threads, full masks, random token ids. Ours are the graphs as our engine opens them,
in batches of at most as many padded tokens as it forms; OpenVINO's int8 is NNCF's, with its settings for transformers.
Both are calibrated on random tokens. Those of OpenVINO's operators that are not in 8 bits run in fp32, and, as
`default`, in what it takes by itself, which is bf16 where the processor has it. OpenVINO times itself in its own
process, which sleeps meanwhile. On a single core the processor's time counts, which other programs do not lengthen.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.classify import SHAPES, random_tokens
from benchmarks.peers import PEERS, versions_with
from benchmarks.peers.worker import Worker, working
from benchmarks.support.classifier_sides import INT8, OURS, Feed, Side, adamix_side
from benchmarks.support.comparison import Comparison
from benchmarks.support.errors import DisagreementError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import usable_cores
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace, Reported, Timings, measure
from benchmarks.support.sample import merged_classifier
from serve.limits import BatchLimits

OPENVINO = "openvino"
PRECISIONS = {"": "fp32", INT8: "int8"}
"""Suffix of our side's name → precision."""
EXACT, DEFAULT = OPENVINO, f"{OPENVINO}-default"
INTEGER, DEFAULT_INTEGER = f"{EXACT}{INT8}", f"{DEFAULT}{INT8}"
PEERS_OF = {"": (EXACT, DEFAULT), INT8: (INTEGER, DEFAULT_INTEGER, DEFAULT)}
"""Suffix of our side's name → the sides of OpenVINO that it is compared with."""
CALLS = {EXACT: ("fp32", "f32"), DEFAULT: ("fp32",), INTEGER: ("int8", "f32"), DEFAULT_INTEGER: ("int8",)}
"""Side of OpenVINO → its model, and its hint for the precision of other operators."""
GOALS = {"": {EXACT: 1.1}, INT8: {INTEGER: 1.0, DEFAULT: 1.3}}
"""Suffix of our side's name → OpenVINO's side → the ratio at the worst shape."""
MEAN = 1.1
"""Goal of int8 by int8 in the mean of the shapes."""
TOLERANCE = 0.1
"""Largest difference of a logit between the sides."""
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "numpy")
Call = Callable[[], object]


def compare_with_openvino(pace: Pace) -> Findings:
    """Measure both sides in both precisions at all shapes."""
    peer = PEERS[OPENVINO]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        merged_classifier().save_pretrained(scratch / "merged")
        converted = peer.convert("openvino_quantize.py", scratch / "merged")
        ours = {suffix: adamix_side(scratch / "merged", scratch, precision=name) for suffix, name in PRECISIONS.items()}
        theirs = {
            name: stack.enter_context(working(peer.python, "openvino_classify.py", converted / f"{file}.xml", *hint))
            for name, (file, *hint) in CALLS.items()
        }
        feeds = {case: random_tokens(*shape) for case, shape in SHAPES.items()}
        for feed in feeds.values():
            require_agreement(
                [*(_logits(side, feed) for side in ours.values()), *(_answer(one, feed)[1] for one in theirs.values())]
            )
        work = {case: _calls(feed, ours, theirs) for case, feed in feeds.items()}
        timings = measure(work, pace)
    return Findings(
        goals=goals(timings),
        rows=rows_of(timings),
        versions=versions_with(PACKAGES, CALLS),
        worst=str(_of(timings, INT8).worst()),
    )


def goals(timings: Timings) -> list[Goal]:
    """Return the benchmark's goals."""
    compared = {suffix: _of(timings, suffix) for suffix in GOALS}
    worst = [
        Goal(what=f"{PRECISIONS[suffix]} by {peer}, worst shape", value=compared[suffix].worst(peer).value, goal=goal)
        for suffix, goals_of_peers in GOALS.items()
        for peer, goal in goals_of_peers.items()
    ]
    mean = statistics.mean(compared[INT8].ratio(case, INTEGER).value for case in timings)
    return [*worst, Goal(what=f"int8 by {INTEGER}, mean of the shapes", value=mean, goal=MEAN)]


def rows_of(timings: Timings) -> list[Row]:
    """Return a row for each pair of sides that is compared at a shape."""
    return [
        {
            "case": case,
            "side": compared.ours,
            "peer": peer,
            "ms": 1e3 * sides[compared.ours].seconds,
            "peer_ms": 1e3 * sides[peer].seconds,
            "ratio": compared.ratio(case, peer).value,
            "noise": max(sides[compared.ours].noise, sides[peer].noise),
        }
        for suffix, peers in PEERS_OF.items()
        for compared in (_of(timings, suffix),)
        for peer in peers
        for case, sides in timings.items()
    ]


def batches(feed: Feed) -> list[Feed]:
    """Return a feed in batches that the engine's limits allow."""
    rows, length = next(iter(feed.values())).shape
    step = max(1, BatchLimits().max_batch_tokens // length)
    return [{name: ids[start : start + step] for name, ids in feed.items()} for start in range(0, rows, step)]


def require_agreement(logits: list[np.ndarray]) -> None:
    """Raise an error unless all sides have nearly the same logits."""
    difference = float(np.max([np.abs(found - logits[0]).max() for found in logits]))
    if not difference < TOLERANCE:
        raise DisagreementError(f"the logits of the sides differ by {difference:.2e}: times do not compare")


def _calls(feed: Feed, ours: dict[str, Side], theirs: dict[str, Worker]) -> dict[str, Call]:
    return {
        **{OURS + suffix: partial(_own_time, side, feed) for suffix, side in ours.items()},
        **{name: partial(_timed, worker, feed) for name, worker in theirs.items()},
    }


def _logits(side: Side, feed: Feed) -> np.ndarray:
    return np.concatenate([side(batch)() for batch in batches(feed)])


def _own_time(side: Side, feed: Feed) -> Reported:
    clock = time.process_time if usable_cores() == 1 else time.perf_counter
    calls = [side(batch) for batch in batches(feed)]
    start = clock()
    for call in calls:
        call()
    return Reported(clock() - start)


def _timed(worker: Worker, feed: Feed) -> Reported:
    return Reported(_answer(worker, feed)[0])


def _answer(worker: Worker, feed: Feed) -> tuple[float, np.ndarray]:
    """Return the seconds of a run in the worker, and its logits."""
    found = worker.ask({name: ids.tolist() for name, ids in feed.items()})
    return found["seconds"], np.array(found["logits"], np.float32)


def _of(timings: Timings, suffix: str) -> Comparison:
    """Return our side of one precision and those that it is compared with."""
    names = (OURS + suffix, *PEERS_OF[suffix])
    return Comparison(OURS + suffix, {case: {name: sides[name] for name in names} for case, sides in timings.items()})


if __name__ == "__main__":
    main(Benchmark(name="openvino", claim=str(__doc__), measure=compare_with_openvino, rounds=9))
