"""Time several sides of the same work against each other, interleaved.

A round gives every side of every case one turn, and each round starts with another side. A turn is a rest, one call
that is not timed, and then timed calls until they fill the turn; its figure is their median. A call may report the time
of a part of itself.

The rest matters: ONNX Runtime's worker threads spin for some 50 ms after their last call. Seen on two cores: without a
rest the calls of whichever side came next took two to three times as long as alone.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from adamix_cli.progress_bar import progress_bar

Call = Callable[[], object]


@dataclass(frozen=True)
class Reported:
    """Seconds that a call measured itself, where only a part of it counts."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The amount of measuring."""

    rounds: int
    turn_seconds: float = 0.15
    """Least sum of the timed calls of a turn."""
    rest_seconds: float = 0.1
    """Idle time before a turn, in which the threads of the side before go to sleep."""
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1")


@dataclass(frozen=True)
class Timing:
    """Times of one side for one case."""

    turns: list[float] = field(default_factory=list)
    """Seconds a call, one entry a round."""

    @property
    def seconds(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.turns)

    @property
    def noise(self) -> float:
        """Distance between the quartiles of the rounds, as a share of the median; 0 for a single round."""
        if len(self.turns) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.turns, n=4, method="inclusive")
        return (upper - lower) / self.seconds


Timings = dict[str, dict[str, Timing]]
"""Timings by case, then by side."""


def measure(cases: Mapping[str, Mapping[str, Call]], pace: Pace) -> Timings:
    """Return the timings of `cases`: by case, by side, one call of the work."""
    timings: Timings = {case: {side: Timing() for side in sides} for case, sides in cases.items()}
    turns = list(_schedule(cases, pace.rounds))
    with progress_bar(turns, desc="measuring", unit="turn") as bar:
        for case, side in bar:
            timings[case][side].turns.append(_turn(cases[case][side], pace))
    return timings


def _schedule(cases: Mapping[str, Mapping[str, Call]], rounds: int) -> Iterator[tuple[str, str]]:
    """Yield case and side of every turn."""
    for number in range(rounds):
        for case, sides in cases.items():
            names = list(sides)
            first = number % len(names)
            for side in names[first:] + names[:first]:
                yield case, side


def _turn(call: Call, pace: Pace) -> float:
    """Return the median seconds of the timed calls of one turn."""
    pace.sleep(pace.rest_seconds)
    call()
    times: list[float] = []
    while sum(times) < pace.turn_seconds:
        start = pace.clock()
        found = call()
        times.append(found.seconds if isinstance(found, Reported) else pace.clock() - start)
    return statistics.median(times)
