"""Texts that arrive one by one: our engine, which takes each up between two tokens, against batches of eight in genai.

64 inputs of E2E arrive as a Poisson process, each to be continued by as many tokens as its reference text has.
onnxruntime-genai generates in batches of those that wait, eight at most, until the longest of a batch is done; it
has the same merged weights, in the graph of its own builder. The rate of arrival is a multiple (`load`) of genai's rate
when all requests are there at once. Goodput is requested tokens by the time from the first arrival to the end of the
last text.

How long a text waits for its first token is given in decode steps (the median of the run), after taking off the time
that its prompt takes when nothing else runs.
"""

import csv
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import PEERS
from benchmarks.support.errors import PeerError
from benchmarks.support.generation_sides import Ours, Write, e2e_file, genai, models
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Pace
from serve.limits import GenerationLimits

REQUESTS = 64
BATCH = 8
PRECISIONS = ("fp32", "int4")
LOADS = (1.0, 3.0)
OURS, GENAI = "adamix", "genai"
GOODPUT, STEPS = 2.0, 5.0
"""Goals: goodput as a multiple of genai's at the higher load, and decode steps before a first token."""
ROWS = 16
SEED = 11


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt, the tokens to generate, and its arrival in seconds after the first one."""

    ids: list[int]
    new: int
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """Times of the requests of one turn."""

    first: list[float]
    """Seconds from each one's arrival to its first token."""
    end: float
    """Seconds from the first arrival to the end of the last text."""
    step: float | None = None
    """Median seconds of a step that wrote."""


@dataclass(frozen=True)
class Turns:
    """A side's runs at one load, and the time that each prompt takes by itself."""

    runs: list[Served] = field(default_factory=list)

    @property
    def end(self) -> float:
        """Median seconds to finish all requests."""
        return statistics.median(run.end for run in self.runs)

    def first(self, percent: float) -> float:
        """Return the seconds to a first token that so many per cent stay below: the median of the runs."""
        return statistics.median(float(np.percentile(run.first, percent)) for run in self.runs)

    def steps(self, prefills: Sequence[float], percent: float) -> float | None:
        """Return the same in decode steps, each request's own prefill taken off."""
        found = [
            float(np.percentile(np.subtract(run.first, prefills), percent)) / run.step for run in self.runs if run.step
        ]
        return statistics.median(found) if found else None


Case = tuple[str, float]
"""Precision and load."""


def compare_arrivals(pace: Pace) -> Findings:
    """Run both sides in turn at every load."""
    turns: dict[Case, dict[str, Turns]] = {}
    prefills: dict[str, list[float]] = {}
    absent: list[Absent] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = models(PRECISIONS, Path(folder))
        sides: dict[str, dict[str, Callable[[Sequence[Request]], Served]]] = {}
        rates: dict[str, float] = {}
        for precision in PRECISIONS:
            ours = Ours(found.bundles[precision], GenerationLimits(max_batch_requests=ROWS, prefix_tokens=0))
            requests = e2e_requests(ours)
            sides[precision] = {OURS: partial(serve_ours, ours)}
            prefills[precision] = [alone(ours, request) for request in requests]
            try:
                peer = genai(stack, found, precision)
            except PeerError as error:
                absent.append(Absent(peer=f"{GENAI} {precision}", reason=str(error)))
            else:
                sides[precision][GENAI] = partial(serve_genai, peer, ours.generator.bundle.manifest.pad_token_id)
            reference = sides[precision].get(GENAI, sides[precision][OURS])
            rates[precision] = REQUESTS / reference(requests).end
        cases = [(precision, load) for precision in PRECISIONS for load in LOADS]
        order = [(number, case) for number in range(pace.rounds) for case in cases]
        for number, (precision, load) in progress_bar(order, desc="measuring", unit="turn"):
            arriving = poisson(requests, load * rates[precision], seed=SEED + number)
            names = list(sides[precision])
            for name in names[number % len(names) :] + names[: number % len(names)]:
                pace.sleep(pace.rest_seconds)
                here = turns.setdefault((precision, load), {}).setdefault(name, Turns())
                here.runs.append(sides[precision][name](arriving))
    versions = versions_of(("onnxruntime", "numpy", "torch", "transformers"))
    if any(GENAI in found_sides for found_sides in turns.values()):
        versions |= PEERS[GENAI].versions()
    tokens = sum(request.new for request in requests)
    return findings_of(turns, prefills, tokens, absent, versions)


def e2e_requests(ours: Ours) -> list[Request]:
    """Return inputs of E2E's test set, spread over it, with the length of the first reference text of each."""
    with e2e_file().open(encoding="utf-8", newline="") as stream:
        answers: dict[str, str] = {}
        for row in csv.DictReader(stream):
            answers.setdefault(row["mr"], row["ref"])
    tokenizer = ours.generator.tokenizer
    inputs = list(answers)[:: len(answers) // REQUESTS][:REQUESTS]
    return [
        Request(ids=ours.generator.prompt(text).input_ids, new=len(tokenizer.encode(answers[text]).ids))
        for text in inputs
    ]


def poisson(requests: Sequence[Request], rate: float, *, seed: int) -> list[Request]:
    """Return requests in a random order that arrive at so many a second; the first comes at once."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.exponential(1 / rate, len(requests)))
    order = random.permutation(len(requests))
    made = {index: replace(requests[index], at=float(times[place] - times[0])) for place, index in enumerate(order)}
    return [made[index] for index in range(len(requests))]


def serve_ours(ours: Ours, requests: Sequence[Request]) -> Served:
    """Answer requests as they come with continuous batching."""
    engine = ours.scheduler()
    texts = [ours.begun(request.ids, request.new) for request in requests]
    coming = deque(sorted(range(len(requests)), key=lambda index: requests[index].at))
    steps: list[float] = []
    start = time.monotonic()
    while coming or engine.busy:
        while coming and requests[coming[0]].at <= time.monotonic() - start:
            engine.submit(texts[coming.popleft()])
        if not engine.busy:
            time.sleep(max(0.0, start + requests[coming[0]].at - time.monotonic()))
            continue
        reads, before = bool(engine.waiting or engine.buckets.prefilling), time.monotonic()
        engine.step()
        if not reads:
            steps.append(time.monotonic() - before)
    ends = [text.finish_time or 0.0 for text in texts]
    firsts = [
        (text.first_token_time or 0.0) - start - request.at for text, request in zip(texts, requests, strict=True)
    ]
    return Served(first=firsts, end=max(ends) - start, step=statistics.median(steps))


def serve_genai(peer: Write, pad: int, requests: Sequence[Request]) -> Served:
    """Answer requests as they come in batches of those that wait."""
    order = sorted(range(len(requests)), key=lambda index: requests[index].at)
    sent = [{"at": requests[at].at, "ids": requests[at].ids, "new": requests[at].new} for at in order]
    times: list[dict[str, float]] = peer({"do": "serve", "requests": sent, "batch": BATCH, "pad": pad})
    firsts = {at: done["first"] - requests[at].at for at, done in zip(order, times, strict=True)}
    return Served(first=[firsts[at] for at in range(len(requests))], end=max(done["end"] for done in times))


def alone(ours: Ours, request: Request) -> float:
    """Return the seconds to the first token of a request when there is no other: the median of three."""
    job = {"rows": [request.ids], "new": 0}
    return statistics.median(ours.write(job)["prefill"] for _ in range(3))


def findings_of(
    turns: dict[Case, dict[str, Turns]],
    prefills: dict[str, list[float]],
    tokens: int,
    absent: list[Absent],
    versions: dict[str, str],
) -> Findings:
    """Return the table and the goals."""
    rows: list[dict[str, object]] = []
    goals = []
    for (precision, load), sides in turns.items():
        for name, found in sides.items():
            steps = found.steps(prefills[precision], 95)
            rows.append(
                {
                    "precision": precision,
                    "load": load,
                    "side": name,
                    "tokens_a_second": tokens / found.end,
                    "first_token_p50_s": found.first(50),
                    "first_token_p95_s": found.first(95),
                    "steps_p95": "" if steps is None else round(steps, 2),
                }
            )
        ratio = sides[GENAI].end / sides[OURS].end if GENAI in sides else None
        waits = sides[OURS].steps(prefills[precision], 95)
        case = f"{precision}, load {load:g}"
        goals += [
            Goal(what=f"{case}: goodput by genai's in batches of {BATCH}", value=ratio, goal=GOODPUT),
            Goal(
                what=f"{case}: p95 of decode steps to the first token, beyond its prefill",
                value=waits,
                goal=STEPS,
                better="lower",
            ),
        ]
    kept = [goal for goal in goals if goal.goal == GOODPUT and goal.value is not None]
    worst = min(kept, key=lambda goal: goal.value or 0, default=None)
    return Findings(
        goals=goals,
        rows=rows,
        versions=versions,
        worst=f"{worst.value:.3f} ({worst.what})" if worst else "no peer was there",
        absent=absent,
    )


if __name__ == "__main__":
    main(Benchmark(name="continuous", claim=str(__doc__), measure=compare_arrivals, rounds=3))
