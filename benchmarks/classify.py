"""The merged MiniLM graph of adamix-export against PyTorch, eager and compiled, and other ONNX exports.

All sides run the same merged model on the CPU with the same number of threads, full masks, random token ids; our
graphs as our engine opens them, the peers' as ONNX Runtime does by default. int8 is compared with int8.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers import versions_with
from benchmarks.support.classifier_sides import INT8, OPTIMUM, OURS, TORCH, Feed, Logits, open_sides
from benchmarks.support.comparison import Comparison
from benchmarks.support.errors import DisagreementError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal, Row
from benchmarks.support.rounds import Pace, Timing, Timings, measure
from benchmarks.support.sample import TOKEN_INPUTS

SHAPES: dict[str, tuple[int, int]] = {
    "1x16": (1, 16),
    "1x128": (1, 128),
    "8x32": (8, 32),
    "32x32": (32, 32),
    "32x128": (32, 128),
}
"""Case → batch, sequence."""
SHORTEST = "1x16"
LARGEST = "32x128"
TOLERANCES = {False: 1e-4, True: 2e-2}
"""Largest difference of a logit from PyTorch's, by whether a side is in int8; the logits spread over some 0.1."""
SGEMM, PRODUCT = "sgemm", 2048
"""The machine's own matrix product, and the sides of its matrices."""
LAYERS, WIDTH, INNER = 6, 384, 1536
"""Sizes of MiniLM."""
VOCABULARY = 30522
SEED = 0
PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "numpy")


def compare_classifiers(pace: Pace) -> Findings:
    """Measure all sides at all shapes, and the machine's own matrix product."""
    with tempfile.TemporaryDirectory() as scratch:
        sides, absent = open_sides(Path(scratch))
        feeds = {case: random_tokens(batch, sequence) for case, (batch, sequence) in SHAPES.items()}
        work = {case: {name: prepare(feed) for name, prepare in sides.items()} for case, feed in feeds.items()}
        for case, calls in work.items():
            require_agreement(case, {name: call() for name, call in calls.items()})
        timings = measure({**work, SGEMM: {TORCH: _product()}}, pace)
    flops = 2 * PRODUCT**3 / timings.pop(SGEMM)[TORCH].seconds
    exact, int8 = (Comparison(ours, _of(timings, ours)) for ours in (OURS, OURS + INT8))
    return Findings(
        goals=goals(exact, int8, flops, absent),
        rows=[_row(timings[case], case) for case in SHAPES],
        versions=versions_with(PACKAGES, sides),
        worst=str(exact.worst()),
        absent=absent,
    )


def goals(exact: Comparison, int8: Comparison, flops: float, absent: Sequence[Absent]) -> list[Goal]:
    """Return the benchmark's goals; `flops` is the rate of the machine's own matrix product.

    The peers that the first one had to do without are named in it.
    """
    without = f" (without {', '.join(peer.peer for peer in absent)})" if absent else ""
    quantised = [exact.timings[case][OURS].seconds / int8.timings[case][OURS + INT8].seconds for case in SHAPES]
    return [
        Goal(
            what=f"ratio to the best peer{without}, worst shape",
            value=exact.worst().value,
            goal=1.0,
        ),
        Goal(
            what=f"ratio to PyTorch eager at {SHORTEST}",
            value=exact.ratio(SHORTEST, TORCH).value,
            goal=2.0,
        ),
        Goal(
            what=f"rate at {LARGEST} by that of one large matrix product, of the work that the graph does",
            value=work_of(*SHAPES[LARGEST]) / exact.timings[LARGEST][OURS].seconds / flops,
            goal=0.95,
        ),
        Goal(what="int8 by our fp32, worst shape", value=min(quantised), goal=2.0),
        Goal(
            what="int8 by optimum's int8, worst shape",
            value=int8.worst().value if OPTIMUM + INT8 in int8.peers(SHORTEST) else None,
            goal=1.2,
        ),
    ]


def work_of(batch: int, sequence: int) -> float:
    """Return the floating-point operations of matrix products that our graph of MiniLM does for a batch.

    Its last layer computes keys and values for every token and the rest for the first one.
    """
    tokens = batch * sequence
    projection, feed_forward = WIDTH * WIDTH, 2 * WIDTH * INNER
    scores = 2 * sequence * WIDTH
    layer = tokens * (4 * projection + feed_forward + scores)
    last = tokens * 2 * projection + batch * (2 * projection + feed_forward + scores)
    return 2.0 * ((LAYERS - 1) * layer + last)


def _of(timings: Timings, ours: str) -> Timings:
    """Return the timings of the sides that have the precision of one of ours."""
    return {
        case: {name: timing for name, timing in sides.items() if name.endswith(INT8) == ours.endswith(INT8)}
        for case, sides in timings.items()
    }


def _row(timings: Mapping[str, Timing], case: str) -> Row:
    """Return milliseconds by side, and the ratios of its peers in its precision to each of ours."""
    found = {f"{side}_ms": timing.seconds * 1e3 for side, timing in timings.items()}
    ratios = {
        f"ratio_{side}": timing.seconds / timings[OURS + INT8 if side.endswith(INT8) else OURS].seconds
        for side, timing in timings.items()
        if not side.startswith(OURS)
    }
    return {"case": case, **found, **ratios, "noise": max(timing.noise for timing in timings.values())}


def _product() -> Callable[[], object]:
    """Return one large product of square matrices in fp32."""
    left, right = torch.rand(2, PRODUCT, PRODUCT)
    return lambda: left @ right


def require_agreement(case: str, logits: Mapping[str, Logits]) -> None:
    """Raise an error unless every side's logits are PyTorch's, up to the tolerance of its precision."""
    for name, found in logits.items():
        difference = float(np.abs(found - logits[TORCH]).max())
        tolerance = TOLERANCES[name.endswith(INT8)]
        # Written so that a difference that is not a number is an error too.
        if not difference < tolerance:
            raise DisagreementError(
                f"at {case} the logits of {name} differ from those of {TORCH} by {difference:.2e} "
                f"(tolerance {tolerance:.0e}): their times do not compare"
            )


def random_tokens(batch: int, sequence: int) -> Feed:
    """Return token ids (batch, sequence) drawn over the whole vocabulary, in one segment, without padding."""
    shape = (batch, sequence)
    ids = np.random.default_rng(SEED).integers(VOCABULARY, size=shape, dtype=np.int64)
    values = (ids, np.zeros(shape, np.int64), np.ones(shape, np.int64))
    return dict(zip(TOKEN_INPUTS, values, strict=True))


if __name__ == "__main__":
    main(Benchmark(name="classify", claim=str(__doc__), measure=compare_classifiers))
