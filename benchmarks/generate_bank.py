"""Eight texts through eight adapters in one batch, against the ways without a bank.

One is the plain graph with an adapter merged, which gives all eight rows to one adapter: what the bank costs. The other
is onnxruntime-genai with ONNX Runtime's `.onnx_adapter` files, of which a batch takes one: eight adapters are eight
batches of a row each, one after another: what the bank gains. A text is a prompt of 32 tokens and 49 generated tokens.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from adamix_export.converters.genai import write_genai
from benchmarks.peers import PEERS
from benchmarks.support.generation_sides import (
    Ours,
    Write,
    bank_of_writers,
    exported,
    genai_on,
    present,
    prompts,
    trained_writer,
)
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Call, Pace, Reported, Timings, measure
from serve.bundle.reader import Bundle
from serve.limits import GenerationLimits

ADAPTERS = 8
PROMPT, NEW = 32, 48
PRECISIONS = ("fp32", "int4")
MERGED, BANK, SAME, GENAI = "merged", "bank", "bank, one adapter", "genai, one adapter at a time"
MOST, LEAST = 1.15, 3.0
"""Goals: at most this multiple of the merged graph's time, at least this multiple of genai's throughput."""
WRONG = "it generates other tokens than ours through {} of {} adapters: times do not compare"


def compare_banks(pace: Pace) -> Findings:
    """Measure every precision."""
    timings: Timings = {}
    absent: list[Absent] = []
    with tempfile.TemporaryDirectory() as folder:
        source = trained_writer(Path(folder) / "run")
        for precision in PRECISIONS:
            scratch = Path(folder) / precision
            merged = exported(source, precision, "merged", scratch / "merged")
            bank = bank_of_writers(source, precision, ADAPTERS, scratch / "bank")
            with ExitStack() as stack:
                sides, missing = sides_of(stack, merged, bank, scratch / "genai")
                timings |= measure({precision: sides}, pace)
            absent += [Absent(peer=f"{one.peer}, {precision}", reason=one.reason) for one in missing]
    return findings_of(timings, absent)


def sides_of(stack: ExitStack, merged: Bundle, bank: Bundle, scratch: Path) -> tuple[dict[str, Call], list[Absent]]:
    """Return the calls that generate eight texts, and the peer if it is missing."""
    limits = GenerationLimits(max_batch_requests=ADAPTERS, prefix_tokens=0)
    plain, many = Ours(merged, limits).write, Ours(bank, limits).write
    names = list(bank.adapters)
    job = {"do": "write", "rows": prompts(Ours(bank, limits).generator, ADAPTERS, PROMPT), "new": NEW}
    sides: dict[str, Call] = {
        MERGED: lambda: Reported(seconds_of(plain(job))),
        BANK: lambda: Reported(seconds_of(many({**job, "adapters": names}))),
        SAME: lambda: Reported(seconds_of(many({**job, "adapters": names[:1] * ADAPTERS}))),
    }
    peers, absent = present({GENAI: partial(_genai_files, stack, bank, scratch)})
    for name, write in peers.items():
        theirs = [tokens for found in one_at_a_time(write, job, names) for tokens in found["tokens"]]
        ours = many({**job, "adapters": names})["tokens"]
        if wrong := sum(one != other for one, other in zip(ours, theirs, strict=True)):
            absent.append(Absent(peer=name, reason=WRONG.format(wrong, ADAPTERS)))
        else:
            sides[name] = partial(_in_turn, write, job, names)
    return sides, absent


def one_at_a_time(write: Write, job: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Do a job row after row, each through its adapter."""
    return [write({**job, "rows": [row], "adapter": name}) for row, name in zip(job["rows"], names, strict=True)]


def seconds_of(found: dict[str, float]) -> float:
    """Return the time of a job."""
    return found["prefill"] + found["decode"]


def findings_of(timings: Timings, absent: list[Absent]) -> Findings:
    """Return the table and the goals."""
    goals = []
    for precision, sides in timings.items():
        bank = sides[BANK].seconds
        goals += [
            Goal(
                what=f"{precision}: {ADAPTERS} rows of {ADAPTERS} adapters by the merged graph's time",
                value=bank / sides[MERGED].seconds,
                goal=MOST,
                better="lower",
            ),
            Goal(
                what=f"{precision}: throughput by that of one adapter at a time in genai",
                value=sides[GENAI].seconds / bank if GENAI in sides else None,
                goal=LEAST,
            ),
        ]
    worst = max(goals[::2], key=lambda goal: goal.value or 0)
    return Findings(
        goals=goals,
        rows=[
            {
                "precision": precision,
                "side": name,
                "ms": timing.seconds * 1e3,
                "by_merged": timing.seconds / sides[MERGED].seconds,
                "noise": timing.noise,
            }
            for precision, sides in timings.items()
            for name, timing in sides.items()
        ],
        versions=versions_of(("onnxruntime", "numpy", "torch", "transformers"))
        | ({} if absent else PEERS["genai"].versions()),
        worst=f"{worst.value:.3f} ({worst.what})",
        absent=absent,
    )


def _genai_files(stack: ExitStack, bank: Bundle, folder: Path) -> Write:
    """Return genai on the bank's graph, with an `.onnx_adapter` file for each adapter."""
    PEERS["genai"].require()
    folder.mkdir()
    write_genai(bank, list(bank.adapters.values()), folder)
    return genai_on(stack, folder)


def _in_turn(write: Write, job: dict[str, Any], names: Sequence[str]) -> Reported:
    return Reported(sum(map(seconds_of, one_at_a_time(write, job, names))))


if __name__ == "__main__":
    main(Benchmark(name="generate_bank", claim=str(__doc__), measure=compare_banks, rounds=7))
