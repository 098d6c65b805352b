"""Tokens a second of one decoder: generating with 1, 4, 8 and 16 rows, and prefill of 128 and 512 tokens.

Ours is the engine with continuous batching with that many rows; onnxruntime-genai, optimum and transformers have
the same merged weights, llama.cpp the GGUF file that the base came in. Prompts are E2E's inputs, and no token ends a
text. The sides in fp32 must generate the same tokens, or they are left out and named.
"""

import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.support.generation_sides import ROWS, Ours, Write, genai, hugging_face, llama, models, present, prompts
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Call, Pace, Reported, Timings, measure
from serve.limits import GenerationLimits

NEW = 24
PROMPT = 32
DECODE = (1, 4, 8, 16)
PREFILL = (128, 512)
OURS, OURS_INT4 = "adamix fp32", "adamix int4"
GENAI, GENAI_INT4, LLAMA = "genai fp32", "genai int4", "llama.cpp"
TRANSFORMERS, OPTIMUM = "transformers fp32", "optimum fp32"
EXACT = (GENAI, TRANSFORMERS, OPTIMUM)
GOALS = (
    (OURS_INT4, GENAI_INT4, 1, 1.0),
    (OURS_INT4, LLAMA, 1, 1.1),
    (OURS_INT4, GENAI_INT4, 8, 1.5),
    (OURS, GENAI, 1, 1.2),
    (OURS, GENAI, 8, 1.4),
)
"""Side, peer, rows, and the ratio of their tokens a second."""
PACKAGES = ("torch", "transformers", "onnxruntime", "numpy")


def compare_writers(pace: Pace) -> Findings:
    """Have every side do every job."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = models(("fp32", "int4"), Path(folder))
        limits = GenerationLimits(max_batch_requests=ROWS, prefix_tokens=0)
        ours = {name: Ours(found.bundles[name.split()[1]], limits) for name in (OURS, OURS_INT4)}
        peers, absent = present(
            {
                GENAI: partial(genai, stack, found, "fp32"),
                GENAI_INT4: partial(genai, stack, found, "int4"),
                LLAMA: partial(llama, stack),
                TRANSFORMERS: partial(hugging_face, stack, found, "transformers"),
                OPTIMUM: partial(hugging_face, stack, found, "optimum"),
            }
        )
        sides = {name: side.write for name, side in ours.items()} | peers
        generator = ours[OURS].generator
        rows = {count: prompts(generator, count, PROMPT) for count in DECODE}
        for name, reason in disagreeing(sides, rows[4]).items():
            del sides[name], peers[name]
            absent.append(Absent(peer=name, reason=reason))
        cases: dict[str, dict[str, Call]] = {
            case_of(count): {name: timed(write, rows[count], NEW, "decode") for name, write in sides.items()}
            for count in DECODE
        }
        for length in PREFILL:
            prompt = prompts(generator, 1, length)
            cases[f"read {length}"] = {name: timed(write, prompt, 1, "prefill") for name, write in sides.items()}
        timings = measure(cases, pace)
    return findings_of(timings, peers, absent)


def findings_of(timings: Timings, peers: Collection[str], absent: Sequence[Absent]) -> Findings:
    """Return the table and the goals; `peers` are the names of the sides that were there."""
    versions = versions_of(PACKAGES)
    for name in sorted({name.split()[0].split(".")[0] for name in peers} & PEERS.keys()):
        versions |= PEERS[name].versions()
    ratios = {goal: ratio(timings, *goal[:3]) for goal in GOALS}
    measured = {goal: value for goal, value in ratios.items() if value is not None}
    worst = min(measured, key=lambda goal: measured[goal] / goal[3], default=None)
    return Findings(
        goals=[
            Goal(
                what=f"{side} by {peer}, tokens a second, {rows} rows", value=ratios[side, peer, rows, goal], goal=goal
            )
            for side, peer, rows, goal in GOALS
        ],
        rows=[
            {
                "case": case,
                "side": name,
                "tokens_per_second": tokens_of(case) / timing.seconds,
                "noise": timing.noise,
            }
            for case, timed_sides in timings.items()
            for name, timing in timed_sides.items()
        ],
        versions=versions,
        worst=f"{measured[worst]:.3f} of {worst[1]}, {worst[0]} with {worst[2]} rows" if worst else "no peer was there",
        absent=absent,
    )


def timed(write: Write, rows: list[list[int]], new: int, part: str) -> Call:
    """Return a call that does a job and reports the seconds of a part of it."""
    return lambda: Reported(write({"do": "write", "rows": rows, "new": new})[part])


def case_of(rows: int) -> str:
    """Return what a case is called."""
    return f"write {rows} rows"


def tokens_of(case: str) -> int:
    """Return the number of tokens that a case reads or generates."""
    what, count, *_ = case.split()
    return int(count) * (NEW if what == "write" else 1)


def ratio(timings: Timings, side: str, peer: str, rows: int) -> float | None:
    """Return a side's tokens a second by a peer's, if it was there."""
    found = timings[case_of(rows)]
    return found[peer].seconds / found[side].seconds if peer in found else None


def disagreeing(sides: dict[str, Write], rows: list[list[int]]) -> dict[str, str]:
    """Return the sides in fp32 whose tokens differ from ours: their work does not compare."""
    job = {"do": "write", "rows": rows, "new": NEW}
    expected = sides[OURS](job)["tokens"]
    found = {name: sides[name](job)["tokens"] for name in EXACT if name in sides}
    return {
        name: f"it generates other tokens than ours in {differing} of {len(rows)} rows: times do not compare"
        for name, tokens in found.items()
        if (differing := sum(one != other for one, other in zip(tokens, expected, strict=True)))
    }


if __name__ == "__main__":
    main(Benchmark(name="generate", claim=str(__doc__), measure=compare_writers, rounds=5))
