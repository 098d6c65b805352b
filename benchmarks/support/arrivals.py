"""Requests that arrive over time, and what serves them: our engine, or a peer in a process of its own."""

import csv
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.support.generation_sides import Ours, Write, e2e_file

REQUESTS = 64
BATCH = 8
"""Most requests of a batch of a peer that does not batch continuously."""


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
