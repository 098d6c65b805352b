"""Texts that arrive one by one, each taken up by our engine between two tokens, against the strongest peers.

64 inputs of E2E arrive as a Poisson process, each to be continued by as many tokens as its reference text has. All
sides have the same merged weights. onnxruntime-genai generates in batches of those that wait, eight at most, until the
longest of a batch is done; openvino-genai batches continuously as well. The rate of arrival is a multiple (`load`) of
the peer's rate when all requests are there at once. Goodput is requested tokens by the time from the first arrival to
the end of the last text.

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
from benchmarks.support.generation_sides import Models, Ours, Write, e2e_file, genai, models, openvino
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Pace
from serve.limits import GenerationLimits

REQUESTS = 64
BATCH = 8
OURS = "adamix"
STEPS, FIRST = 5.0, 1.0
"""Goals: decode steps before a first token, and a peer's 95th percentile of the wait for it by ours."""
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


Serve = Callable[[Sequence[Request]], Served]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Our engine in a precision against a peer."""

    precision: str
    peer: str
    """Name of the peer, and of its precision."""
    open: Callable[[ExitStack, Models], Write]
    rows: int
    """Most sequences that our engine runs at a time."""
    loads: Sequence[float]
    """Rates of arrival, as multiples of the peer's own rate."""
    goodput: float
    """Goal: our goodput as a multiple of the peer's."""
    continuous: bool
    """The peer takes requests up between two tokens, so that first tokens are compared too."""


CONTESTS = (
    *(
        Contest(
            precision=precision,
            peer=f"genai {precision}",
            open=partial(genai, precision=precision),
            rows=16,
            loads=(1.0, 3.0),
            goodput=2.0,
            continuous=False,
        )
        for precision in ("fp32", "int4")
    ),
    Contest(
        precision="fp32",
        peer="openvino_genai fp32",
        open=partial(openvino, precision="fp32", hint="f32"),
        rows=64,
        loads=(1.0, 2.0),
        goodput=1.1,
        continuous=True,
    ),
    Contest(
        precision="w8a8",
        peer="openvino_genai int4",
        open=partial(openvino, precision="int4"),
        rows=64,
        loads=(1.0, 2.0),
        goodput=1.1,
        continuous=True,
    ),
)
"""Genai takes at most eight requests at a time, openvino-genai 64."""


@dataclass(frozen=True)
class Case:
    """A contest at one load."""

    contest: Contest
    load: float

    def __str__(self) -> str:
        return f"{self.contest.precision} by {self.contest.peer}, load {self.load:g}"


def compare_arrivals(pace: Pace) -> Findings:
    """Run both sides of every contest in turn at every load."""
    turns: dict[Case, dict[str, Turns]] = {}
    prefills: dict[Contest, list[float]] = {}
    absent: list[Absent] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = models(tuple(dict.fromkeys(contest.precision for contest in CONTESTS)), Path(folder))
        requests: list[Request] = []
        cases: dict[Case, dict[str, Serve]] = {}
        rates: dict[Contest, float] = {}
        for contest in CONTESTS:
            limits = GenerationLimits(max_batch_requests=contest.rows, prefix_tokens=0)
            ours = Ours(found.bundles[contest.precision], limits)
            requests = requests or e2e_requests(ours)
            prefills[contest] = [alone(ours, request) for request in requests]
            sides: dict[str, Serve] = {OURS: partial(serve_ours, ours)}
            try:
                pad = ours.generator.bundle.manifest.pad_token_id
                sides[contest.peer] = partial(serve_peer, contest.open(stack, found), pad)
            except PeerError as error:
                absent.append(Absent(peer=contest.peer, reason=str(error)))
            reference = list(sides.values())[-1]
            reference(requests)  # a first run is slower
            rates[contest] = REQUESTS / reference(requests).end
            cases |= {Case(contest, load): sides for load in contest.loads}
        order = [(number, case) for number in range(pace.rounds) for case in cases]
        for number, case in progress_bar(order, desc="measuring", unit="turn"):
            arriving = poisson(requests, case.load * rates[case.contest], seed=SEED + number)
            names = list(cases[case])
            for name in names[number % len(names) :] + names[: number % len(names)]:
                pace.sleep(pace.rest_seconds)
                here = turns.setdefault(case, {}).setdefault(name, Turns())
                here.runs.append(cases[case][name](arriving))
    versions = versions_of(("onnxruntime", "numpy", "torch", "transformers"))
    for name in sorted({name.split()[0] for sides in turns.values() for name in sides} & PEERS.keys()):
        versions |= PEERS[name].versions()
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


def serve_peer(peer: Write, pad: int, requests: Sequence[Request]) -> Served:
    """Answer requests as they come, as the peer does: genai pads batches of those that wait."""
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
    prefills: dict[Contest, list[float]],
    tokens: int,
    absent: list[Absent],
    versions: dict[str, str],
) -> Findings:
    """Return the table and the goals."""
    rows: list[dict[str, object]] = []
    goals: list[Goal] = []
    goodputs: list[Goal] = []
    for case, sides in turns.items():
        contest = case.contest
        for name, found in sides.items():
            steps = found.steps(prefills[contest], 95)
            rows.append(
                {
                    "precision": contest.precision,
                    "peer": contest.peer,
                    "load": case.load,
                    "side": name,
                    "tokens_a_second": tokens / found.end,
                    "first_token_p50_s": found.first(50),
                    "first_token_p95_s": found.first(95),
                    "steps_p95": "" if steps is None else round(steps, 2),
                }
            )
        mine, theirs = sides[OURS], sides.get(contest.peer)
        ratio = theirs.end / mine.end if theirs else None
        goodputs.append(Goal(what=f"{case}: goodput by the peer's", value=ratio, goal=contest.goodput))
        goals.append(goodputs[-1])
        if contest.continuous:
            wait = theirs.first(95) / mine.first(95) if theirs else None
            goals.append(Goal(what=f"{case}: the peer's p95 of the first token by ours", value=wait, goal=FIRST))
        goals.append(
            Goal(
                what=f"{case}: p95 of decode steps to the first token, beyond its prefill",
                value=mine.steps(prefills[contest], 95),
                goal=STEPS,
                better="lower",
            )
        )
    kept = [goal for goal in goodputs if goal.value is not None]
    worst = min(kept, key=lambda goal: (goal.value or 0) / goal.goal, default=None)
    return Findings(
        goals=goals,
        rows=rows,
        versions=versions,
        worst=f"{worst.value:.3f} ({worst.what})" if worst else "no peer was there",
        absent=absent,
    )


if __name__ == "__main__":
    main(Benchmark(name="continuous", claim=str(__doc__), measure=compare_arrivals, rounds=3))
