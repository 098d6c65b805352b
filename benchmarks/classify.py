"""The merged MiniLM graph of adamix-export in ONNX Runtime against PyTorch eager and optimum's ONNX export.

All sides run the same merged fp32 model on the processor with the same number of threads, full masks, random token ids.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.classifiers import OURS, TORCH, Feed, Logits, open_sides
from benchmarks.comparison import Comparison
from benchmarks.errors import DisagreementError
from benchmarks.harness import Benchmark, main
from benchmarks.machine import versions_of
from benchmarks.peers import PEERS
from benchmarks.report import Absent, Findings, Goal
from benchmarks.rounds import Pace, measure
from benchmarks.sample import TOKEN_INPUTS

SHAPES: dict[str, tuple[int, int]] = {
    "1x16": (1, 16),
    "1x128": (1, 128),
    "8x32": (8, 32),
    "32x32": (32, 32),
    "32x128": (32, 128),
}
"""Case → batch, sequence."""
SHORTEST = "1x16"
TOLERANCE = 1e-4
"""Largest difference of a logit from PyTorch's."""
VOCABULARY = 30522
SEED = 0
PACKAGES = ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "numpy")


def compare_classifiers(pace: Pace) -> Findings:
    """Measure all sides at all shapes."""
    with tempfile.TemporaryDirectory() as scratch:
        sides, absent = open_sides(Path(scratch))
        feeds = {case: random_tokens(batch, sequence) for case, (batch, sequence) in SHAPES.items()}
        work = {case: {name: prepare(feed) for name, prepare in sides.items()} for case, feed in feeds.items()}
        for case, calls in work.items():
            require_agreement(case, {name: call() for name, call in calls.items()})
        comparison = Comparison(OURS, measure(work, pace))
    peers = [peer for name, peer in PEERS.items() if name in sides]
    return Findings(
        goals=goals(comparison, absent),
        rows=comparison.rows(),
        versions=versions_of(PACKAGES) | {name: found for peer in peers for name, found in peer.versions().items()},
        worst=str(comparison.worst()),
        absent=absent,
    )


def goals(comparison: Comparison, absent: Sequence[Absent]) -> list[Goal]:
    """Return the benchmark's goals; the peers that the first one had to do without are named in it."""
    without = f" (without {', '.join(peer.peer for peer in absent)})" if absent else ""
    return [
        Goal(
            what=f"ratio to the best peer{without}, worst shape",
            value=comparison.worst().value,
            goal=1.0,
        ),
        Goal(
            what=f"ratio to PyTorch eager at {SHORTEST}",
            value=comparison.ratio(SHORTEST, TORCH).value,
            goal=2.0,
        ),
    ]


def require_agreement(case: str, logits: Mapping[str, Logits]) -> None:
    """Raise an error unless every side's logits are PyTorch's, up to the tolerance."""
    for name, found in logits.items():
        difference = float(np.abs(found - logits[TORCH]).max())
        # Written so that a difference that is not a number is an error too.
        if not difference < TOLERANCE:
            raise DisagreementError(
                f"at {case} the logits of {name} differ from those of {TORCH} by {difference:.2e} "
                f"(tolerance {TOLERANCE:.0e}): their times do not compare"
            )


def random_tokens(batch: int, sequence: int) -> Feed:
    """Return token ids (batch, sequence) drawn over the whole vocabulary, in one segment, without padding."""
    shape = (batch, sequence)
    ids = np.random.default_rng(SEED).integers(VOCABULARY, size=shape, dtype=np.int64)
    values = (ids, np.zeros(shape, np.int64), np.ones(shape, np.int64))
    return dict(zip(TOKEN_INPUTS, values, strict=True))


if __name__ == "__main__":
    main(Benchmark(name="classify", claim=str(__doc__), measure=compare_classifiers))
