"""Processes that speak HTTP before one engine process: would they pay, beside --workers.

The hop between the processes is measured with a prototype that does nothing else, the queue with runs that return at
once, tokens with MiniLM's tokenizer; HTTP is what `benchmarks.protocols` and a run what `benchmarks.capacity` have
measured. A simulation with these costs compares one process, HTTP workers and workers, on 2 and 16 cores.
"""

import asyncio
import json
import time
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.http_workers.hop import hop_seconds
from benchmarks.http_workers.simulation import KINDS, Costs, Outcome, simulate
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace
from demos.models import sample_model
from serve.classification.batcher import Batcher
from serve.limits import BatchLimits

RESULTS = Path(__file__).parents[1] / "results"
TEXT = "the delivery was late again and nobody answered the telephone"
CORES = (2, 16)
TOKENS = (8, 24)
CLIENTS = 8
"""Clients for each core."""
REQUESTS = 4000
PAYS = 1.1
"""Rate of HTTP workers, by the better of the other two, from which on they would pay."""


def measure(pace: Pace) -> Findings:
    """Measure the prototype, and simulate."""
    sides = [hop_seconds(CLIENTS) for _ in range(pace.rounds)]
    costs = Costs(
        http=_reported("protocols", "case", "/predict")["server_ms"] / 1e3,
        queue=min(asyncio.run(_queue_seconds()) for _ in range(pace.rounds)) + _token_seconds(),
        hop=min(max(pair) for pair in sides),
        run=_reported("capacity", "side", "a run")["p50_ms"] / 1e3,
        token=_reported("capacity", "side", "a padded token, rank 8")["p50_ms"] / 1e3,
    )
    found = {
        (cores, tokens, kind): simulate(kind, cores, tokens, CLIENTS * cores, costs)
        for cores in CORES
        for tokens in TOKENS
        for kind in KINDS
    }
    return Findings(
        goals=[_goal(found, cores, tokens) for cores in CORES for tokens in TOKENS],
        rows=[_row(*key, one) for key, one in found.items()],
        versions=versions_of(("uvloop", "numpy", "tokenizers")),
        worst=", ".join(f"{name} {seconds * 1e6:.0f} µs" for name, seconds in vars(costs).items()),
    )


def _goal(found: dict[tuple[int, int, str], Outcome], cores: int, tokens: int) -> Goal:
    rates = {kind: found[cores, tokens, kind].rate for kind in KINDS}
    return Goal(
        what=f"rate of HTTP workers by the better of the others, {cores} cores, {tokens} tokens",
        value=rates["HTTP workers"] / max(rates["one process"], rates["workers"]),
        goal=PAYS,
    )


def _row(cores: int, tokens: int, kind: str, outcome: Outcome) -> Row:
    figures = {"requests_s": round(outcome.rate), "p50_ms": outcome.p50 * 1e3, "p99_ms": outcome.p99 * 1e3}
    return {"cores": cores, "tokens": tokens, "kind": kind, "clients": CLIENTS * cores, **figures}


def _reported(name: str, column: str, value: str) -> dict[str, float]:
    """Return the row of a report in benchmarks/results."""
    rows = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"]
    found: dict[str, float] = next(row for row in rows if row[column] == value)
    return found


async def _queue_seconds() -> float:
    """Return the processor seconds of a text in the queue: submitted, put into a batch, and answered."""
    batcher: Batcher[list[int], int] = Batcher(lambda rows, alone: [0] * len(rows), BatchLimits(), streams=2)
    batcher.start()
    numbers = iter(range(REQUESTS))

    async def client() -> None:
        for _ in numbers:
            await batcher.submit([[0] * 24])

    start = time.process_time()
    await asyncio.gather(*(client() for _ in range(CLIENTS * 2)))
    seconds = (time.process_time() - start) / REQUESTS
    await batcher.drain()
    return seconds


def _token_seconds() -> float:
    tokenizer = Tokenizer.from_file(str(sample_model("minilm") / "tokenizer.json"))
    start = time.process_time()
    for _ in range(REQUESTS):
        tokenizer.encode(TEXT)
    return (time.process_time() - start) / REQUESTS


if __name__ == "__main__":
    main(Benchmark(name="http_workers", claim=str(__doc__), measure=measure, rounds=5))
