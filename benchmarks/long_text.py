"""16 short texts beside a long one: their time without it, with rows batched by length, and in one batch.

The long text may have 8,000 tokens. The short ones, 32 tokens that are continued by 48, arrive together while the long
one is being written: at its beginning, and where it has 4,000 tokens already. Their time is that from their arrival to
the end of the last. In one batch every row is charged as the longest, so that few have room at a time.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from adamix_cli.progress_bar import progress_bar
from benchmarks.support.generation_sides import Ours, exported, trained_writer
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal
from benchmarks.support.rounds import Pace, Timing
from serve.bundle.reader import Bundle
from serve.generation.request import cancel
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits

PRECISIONS = ("fp32", "int4")
SHORT, READ, NEW = 16, 32, 48
"""Short texts, tokens of their prompts, and new tokens."""
LONGEST = 8000
BEGUN = (8, 4000)
"""Tokens of the long text when the short ones arrive."""
ALONE, BUCKETS, ONE_BATCH = "without a long text", "rows by length", "one batch"
BY_LENGTH = GenerationLimits(max_batch_requests=SHORT + 1, prefix_tokens=0)
"""With a row for each text."""
LIMITS = {ALONE: BY_LENGTH, BUCKETS: BY_LENGTH, ONE_BATCH: replace(BY_LENGTH, long_row_tokens=2 * LONGEST)}
GOAL = 1.3
"""Times as long as without the long text."""
VOCABULARY = 1000
"""Tokens of prompts are drawn from so many."""

Case = tuple[str, int, str]
"""Precision, tokens of the long text, and side."""


def compare_sides(pace: Pace) -> Findings:
    """Measure each side in turn."""
    with tempfile.TemporaryDirectory() as folder:
        source = trained_writer(Path(folder) / "run")
        bundles = {name: exported(source, name, "merged", Path(folder) / name) for name in PRECISIONS}
        return compare(bundles, pace)


def compare(bundles: dict[str, Bundle], pace: Pace) -> Findings:
    """Measure bundles by their precision."""
    times: dict[Case, Timing] = {}
    rates: dict[Case, Timing] = {}
    cases = [(precision, begun, side) for precision in bundles for begun in BEGUN for side in LIMITS]
    opened = {precision: Ours(bundle) for precision, bundle in bundles.items()}
    for precision, begun, side in progress_bar(cases * pace.rounds, desc="measuring", unit="turn"):
        pace.sleep(pace.rest_seconds)
        seconds, written = measure(opened[precision], LIMITS[side], None if side == ALONE else begun)
        times.setdefault((precision, begun, side), Timing()).turns.append(seconds)
        rates.setdefault((precision, begun, side), Timing()).turns.append(written / seconds)
    return findings_of(times, rates)


def measure(ours: Ours, limits: GenerationLimits, begun: int | None) -> tuple[float, int]:
    """Return the seconds of the short texts, and the tokens that the long one got meanwhile."""
    random = np.random.default_rng(0)
    engine = ContinuousBatchScheduler(ours.generator.model, limits)
    long = None
    if begun is not None:
        long = ours.begun(random.integers(VOCABULARY, size=begun).tolist(), LONGEST - begun)
        engine.submit(long)
        while not long.tokens:
            engine.step()
    before = len(long.tokens) if long else 0
    short = [ours.begun(random.integers(VOCABULARY, size=READ).tolist(), NEW) for _ in range(SHORT)]
    start = time.perf_counter()
    for one in short:  # each a request of its own
        engine.submit(one)
    while not all(one.finish_reason for one in short):
        engine.step()
    seconds = time.perf_counter() - start
    written = len(long.tokens) - before if long else 0
    cancel([long] if long else [])
    while engine.busy:
        engine.step()
    return seconds, written


def findings_of(times: dict[Case, Timing], rates: dict[Case, Timing]) -> Findings:
    """Return the table and the goals."""
    rows: list[dict[str, object]] = []
    goals = []
    for (precision, begun, side), timing in times.items():
        ratio = timing.seconds / times[precision, begun, ALONE].seconds
        rows.append(
            {
                "precision": precision,
                "tokens_of_the_long_text": begun,
                "side": side,
                "short_texts_s": timing.seconds,
                "ratio": ratio,
                "tokens_a_second_of_the_long_text": rates[precision, begun, side].seconds,
            }
        )
        if side == BUCKETS:
            what = f"{precision}, long text of {begun} tokens: time of the short ones by that without it"
            goals.append(Goal(what=what, value=ratio, goal=GOAL, better="lower"))
    worst = max(goals, key=lambda goal: goal.value or 0.0)
    return Findings(
        goals=goals,
        rows=rows,
        versions=versions_of(("onnxruntime", "numpy", "torch", "transformers")),
        worst=f"{worst.value:.3f} ({worst.what})",
    )


if __name__ == "__main__":
    main(Benchmark(name="long_text", claim=str(__doc__), measure=compare_sides, rounds=3))
