"""Texts that arrive one by one, each taken up by our engine between two tokens, against the strongest peers.

64 inputs of E2E arrive as a Poisson process, each to be continued by as many tokens as its reference text has. All
sides have the same merged weights. onnxruntime-genai generates in batches of those that wait, eight at most, until the
longest of a batch is done; openvino-genai batches continuously as well. The rate of arrival is a multiple (`load`) of
the peer's rate when all requests are there at once. Goodput is requested tokens by the time from the first arrival to
the end of the last text.

How long a text waits for its first token is given in decode steps (the median of the run), after taking off the time
that its prompt takes when nothing else runs.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from adamix_cli.progress_bar import progress_bar
from benchmarks.peers import versions_with
from benchmarks.support.arrivals import (
    REQUESTS,
    Serve,
    Turns,
    alone,
    e2e_requests,
    poisson,
    serve_ours,
    serve_peer,
)
from benchmarks.support.errors import PeerError
from benchmarks.support.generation_sides import Ours, Write, genai, models, openvino
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Pace
from serve.limits import GenerationLimits

OURS = "adamix"
STEPS, FIRST = 5.0, 1.0
"""Goals: decode steps before a first token, and a peer's 95th percentile of the wait for it by ours."""
SEED = 11


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Our engine in a precision against a peer."""

    precision: str
    peer: str
    """Name of the peer, and of its precision."""
    open: Callable[[ExitStack, Path], Write]
    """Opens the peer on a model folder."""
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
    absent: list[Absent] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = models(tuple(dict.fromkeys(contest.precision for contest in CONTESTS)), Path(folder))
        ours = {
            contest: Ours(
                found.bundles[contest.precision],
                GenerationLimits(max_batch_requests=contest.rows, prefix_tokens=0),
            )
            for contest in CONTESTS
        }
        requests = e2e_requests(ours[CONTESTS[0]])
        prefills = {contest: [alone(engine, request) for request in requests] for contest, engine in ours.items()}
        pad = found.bundles[CONTESTS[0].precision].manifest.pad_token_id
        cases: dict[Case, dict[str, Serve]] = {}
        rates: dict[Contest, float] = {}
        for contest in CONTESTS:
            sides: dict[str, Serve] = {OURS: partial(serve_ours, ours[contest])}
            try:
                sides[contest.peer] = partial(serve_peer, contest.open(stack, found.merged), pad)
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
    versions = versions_with(
        ("onnxruntime", "numpy", "torch", "transformers"), (name for sides in turns.values() for name in sides)
    )
    tokens = sum(request.new for request in requests)
    return findings_of(turns, prefills, tokens, absent, versions)


def findings_of(
    turns: dict[Case, dict[str, Turns]],
    prefills: dict[Contest, list[float]],
    tokens: int,
    absent: list[Absent],
    versions: dict[str, str],
) -> Findings:
    """Return the table and the goals."""
    rows: list[dict[str, object]] = []
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
    goals = [goals_of(case, sides, prefills[case.contest]) for case, sides in turns.items()]
    ratios = [(goal.value / goal.goal, goal) for goal, *_ in goals if goal.value is not None]
    _, worst = min(ratios, key=lambda found: found[0], default=(0.0, None))
    return Findings(
        goals=list(chain.from_iterable(goals)),
        rows=rows,
        versions=versions,
        worst=f"{worst.value:.3f} ({worst.what})" if worst else "no peer was there",
        absent=absent,
    )


def goals_of(case: Case, sides: dict[str, Turns], prefills: Sequence[float]) -> list[Goal]:
    """Return the goals of a case, goodput first; a continuous peer's first tokens are compared with ours."""
    mine, theirs = sides[OURS], sides.get(case.contest.peer)
    goodput = theirs.end / mine.end if theirs else None
    goals = [Goal(what=f"{case}: goodput by the peer's", value=goodput, goal=case.contest.goodput)]
    if case.contest.continuous:
        wait = theirs.first(95) / mine.first(95) if theirs else None
        goals.append(Goal(what=f"{case}: the peer's p95 of the first token by ours", value=wait, goal=FIRST))
    steps = mine.steps(prefills, 95)
    what = f"{case}: p95 of decode steps to the first token, beyond its prefill"
    return [*goals, Goal(what=what, value=steps, goal=STEPS, better="lower")]


if __name__ == "__main__":
    main(Benchmark(name="continuous", claim=str(__doc__), measure=compare_arrivals, rounds=3))
