"""Rows of the report: the same columns for all parts, empty where a part has no such figure."""

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.plan import Fleet
from benchmarks.capacity.simulation import Outcome
from benchmarks.capacity.validation import Compared
from benchmarks.support.report import Row

MIB = 1 << 20


def row(part: str, side: str, **values: object) -> Row:
    """Return a row."""
    columns = ("tenants", "rate", "replicas", "p50_ms", "p99_ms", "done", "busy", "busiest", "slot_writes", "loads")
    return {"part": part, "side": side, **{name: values.get(name, "") for name in (*columns, "host_mib")}}


def figures(outcome: Outcome) -> dict[str, object]:
    """Return the columns of an outcome."""
    return {
        "p50_ms": outcome.p50 * 1e3,
        "p99_ms": outcome.p99 * 1e3,
        "done": round(outcome.rate),
        "busy": outcome.mean_busy,
        "busiest": outcome.busiest,
        "slot_writes": outcome.slot_writes,
        "loads": outcome.loads,
    }


def cost_rows(costs: Costs) -> list[Row]:
    """Return a row for each cost, in milliseconds; the last one in MiB."""
    parts = {
        "a run": costs.run,
        "a padded token, rank 8": costs.token + 8 * costs.token_rank,
        "a padded token, rank 128": costs.token + 128 * costs.token_rank,
        "a slot written, rank 8": costs.slot + 8 * costs.slot_rank,
        "a slot written, rank 128": costs.slot + 128 * costs.slot_rank,
        "an adapter loaded": costs.load,
        "a request over HTTP": costs.request,
    }
    rows = [row("cost", name, p50_ms=seconds * 1e3) for name, seconds in parts.items()]
    return [*rows, row("cost", "an adapter of rank 8", host_mib=8 * costs.rank_bytes / MIB)]


def validation_rows(compared: Compared, tenants: int) -> list[Row]:
    """Return the row of the server and that of the simulation."""
    sides = {"measured": compared.measured, "simulated": compared.simulated}
    return [
        row(
            "one replica",
            name,
            tenants=tenants,
            rate=round(compared.offered),
            replicas=1,
            p50_ms=p50 * 1e3,
            p99_ms=p99 * 1e3,
            done=round(done),
        )
        for name, (p50, p99, done) in sides.items()
    ]


def fleet_row(fleet: Fleet) -> Row:
    """Return the row of a plan."""
    sizes = {"tenants": fleet.tenants, "rate": round(fleet.rate), "replicas": fleet.replicas}
    return row("plan", "affinity", **sizes, **figures(fleet.outcome), host_mib=round(fleet.host_bytes / MIB))
