"""Many tenants on few replicas: which placement of adapters pays, and how many replicas and how much memory it takes.

A replica is a server on one core, with a bank of LoRA adapters of MiniLM. Its costs are measured on this machine
first, in processor time. A simulation fed with them, with lengths of sentences of SST-2 and Poisson traffic of Zipf
popularity, is held against one real server over HTTP; then it compares placements of adapters and plans fleets.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.capacity import plan, tables, validation
from benchmarks.capacity.costs import Costs, measure_costs
from benchmarks.capacity.placements import PLACEMENTS
from benchmarks.capacity.simulation import Outcome
from benchmarks.capacity.traffic import RANKS, tenants_of
from benchmarks.support.bundles import exported, like, sentences, trained
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace
from serve.bundle.reader import Bundle
from serve.classification.classifier import Classifier

ROUNDS = 5
QUICK_FLEETS = 4
"""Fleets that are planned with --quick."""
TEXTS = 400
TENANTS, REPLICAS, SLOTS, MOST = 2_000, 8, 64, 256
"""The fleet that placements are compared on."""
RATES = (400, 600)
SIZES = ((64, 256), (64, 1024), (256, 1024), (1024, 1024), (1024, 4096))
"""Slots, and adapters in host memory, that are compared."""
MOST_WRITES = 0.5
"""Adapters written into slots with affinity, by those with random placement."""
TOLERANCES = {"p50": 0.15, "p99": 0.30, "rate": 0.15}
"""Errors that the simulation may have, as shares of what is measured."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts to classify, and the number of tokens of each."""

    texts: Sequence[str]
    lengths: Sequence[int]


def measure(pace: Pace) -> Findings:
    """Measure costs, hold the simulation against a server, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source = trained("lora", scratch / "run", epochs=1, train_limit=64)
        bank = exported([source], "bank", scratch / "bank")
        texts = _texts(bank)
        costs, compared = _validate(bank, measure_costs(bank, scratch / "costs", repeats=pace.rounds), texts, scratch)
    placed = list(_placed(costs, texts))
    fleets = plan.FLEETS if pace.rounds >= ROUNDS else plan.FLEETS[:QUICK_FLEETS]
    goals = [*(goal for one in compared for goal in _accuracy(one)), _fewer_writes(placed)]
    return Findings(
        goals=goals,
        rows=[
            *tables.cost_rows(costs),
            *(row for one in compared for row in tables.validation_rows(one, validation.TENANTS)),
            *(row for _, _, row in placed),
            *_sized(costs, texts),
            *(tables.fleet_row(plan.plan(count, rate, costs, texts.lengths)) for count, rate in fleets),
        ],
        versions=versions_of(("onnxruntime", "numpy", "tokenizers")),
        worst=_worst(goals),
    )


def _texts(bank: Bundle) -> Texts:
    classifier = Classifier(bank, provider="cpu", threads=1)
    texts = sentences(TEXTS)
    return Texts(texts=texts, lengths=[len(classifier.encode(text, None, truncate=True)) for text in texts])


def _validate(bank: Bundle, costs: Costs, texts: Texts, scratch: Path) -> tuple[Costs, list[validation.Compared]]:
    """Return the costs with those of HTTP, and the comparison with a server."""
    folders = like(bank, validation.TENANTS, scratch / "adapters")
    names = [folder.name for folder in folders]
    with validation.one_core_server(bank, scratch / "adapters", scratch / "cache") as server:
        text, tokens = texts.texts[0], texts.lengths[0]
        costs = replace(costs, request=validation.request_seconds(server, costs, names[0], text, tokens))
        return costs, validation.compare(server, costs, texts=texts.texts, lengths=texts.lengths, names=names)


def _placed(costs: Costs, texts: Texts) -> Iterator[tuple[str, Outcome, Row]]:
    """Yield the name, outcome and row of every placement, with one rank and with many."""
    for title, ranks in (("rank 8", None), ("ranks 8 to 128", RANKS)):
        tenants = tenants_of(TENANTS, ranks)
        for rate in RATES:
            for name in PLACEMENTS:
                if ranks is None and name.endswith("by rank"):
                    continue
                outcome = plan.run(
                    name, tenants, rate, REPLICAS, costs, texts.lengths, slots=SLOTS, most=MOST, seconds=40.0
                )
                sizes = {"tenants": TENANTS, "rate": rate, "replicas": REPLICAS}
                yield name, outcome, tables.row(title, name, **sizes, **tables.figures(outcome))


def _sized(costs: Costs, texts: Texts) -> Iterator[Row]:
    """Yield a row for each size of a replica's slots and host memory."""
    tenants, rate, replicas = tenants_of(20_000), RATES[0], REPLICAS
    for slots, most in SIZES:
        outcome = plan.run(
            plan.PLACEMENT, tenants, rate, replicas, costs, texts.lengths, slots=slots, most=most, seconds=40.0
        )
        sizes = {"tenants": tenants.count, "rate": rate, "replicas": replicas}
        host = (slots + most) * 8 * costs.rank_bytes / tables.MIB
        yield tables.row(
            "sizes", f"{slots} slots, {most} loaded", **sizes, **tables.figures(outcome), host_mib=round(host)
        )


def _accuracy(compared: validation.Compared) -> list[Goal]:
    """Return how far the simulation is from the server."""
    pairs = zip(("p50", "p99", "rate"), compared.measured, compared.simulated, strict=True)
    return [
        Goal(
            what=f"error of the simulated {name} at {compared.offered:.0f} requests a second",
            value=abs(simulated / measured - 1),
            goal=TOLERANCES[name],
            better="lower",
        )
        for name, measured, simulated in pairs
    ]


def _fewer_writes(placed: Sequence[tuple[str, Outcome, Row]]) -> Goal:
    """Compare affinity with random placement at the first rate."""
    writes = {name: outcome.slot_writes for name, outcome, _ in reversed(placed)}
    return Goal(
        what=f"adapters written into slots with affinity by those with random placement, {RATES[0]} requests a second",
        value=writes[plan.PLACEMENT] / writes["random"],
        goal=MOST_WRITES,
        better="lower",
    )


def _worst(goals: Sequence[Goal]) -> str:
    worst = max(goals, key=lambda goal: (goal.value or 0) / goal.goal)
    return f"{worst.value:.3f} ({worst.what})"


if __name__ == "__main__":
    main(Benchmark(name="capacity", claim=str(__doc__), measure=measure, rounds=ROUNDS))
