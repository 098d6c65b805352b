"""Tab Live: what the server does at this moment, as plots that move."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import gradio as gr

from demos.page import markup
from demos.page.plots import Line, plot, plots
from demos.page.server_client import PageError, ServerClient
from demos.page.server_metrics import WINDOW, Interval, Snapshot, last_interval, read_snapshot
from demos.page.tab import Context, Parts

EVERY = 1.0
"""Seconds between two looks at the server's metrics."""
KEPT = 120
"""Looks that the plots show."""
NOTHING_YET = f"The plots begin with the second look; rates and percentiles are those of the last {WINDOW} s."
NOTE = (
    f"Drawn since you opened this tab, at most {KEPT * EVERY:g} s; rates and percentiles are those of {WINDOW} s. "
    "Requests and their latency are those of every POST that reached the server, this page's own among them, also "
    "where it only counts the tokens of a long text."
)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of an interval, from one metric of the server."""

    metric: str
    of: Callable[[Interval], float | None]


@dataclass(frozen=True, kw_only=True)
class PlotSpec:
    """A plot: its lines by name, each measured from an interval."""

    unit: str
    lines: Mapping[str, Measure]


def _rate(name: str) -> Measure:
    return Measure(metric=name, of=lambda interval: interval.rate(name))


def _mean(name: str) -> Measure:
    return Measure(metric=name, of=lambda interval: interval.mean(name))


def _now(name: str, factor: float = 1.0) -> Measure:
    def measure(interval: Interval) -> float | None:
        value = interval.last.value(name)
        return None if value is None else factor * value

    return Measure(metric=name, of=measure)


def _percentiles(name: str) -> dict[str, Measure]:
    def measure(share: float) -> Measure:
        def at(interval: Interval) -> float | None:
            value = interval.percentile(name, share)
            return None if value is None else 1000 * value

        return Measure(metric=name, of=at)

    return {f"p{100 * share:.0f}": measure(share) for share in (0.5, 0.95, 0.99)}


PLOTS: dict[str, PlotSpec] = {
    "Throughput": PlotSpec(
        unit="/s", lines={"requests": _rate("adamix_requests_total"), "texts": _rate("adamix_rows_total")}
    ),
    "Tokens": PlotSpec(unit="/s", lines={"read and written": _rate("adamix_tokens_total")}),
    "In the queue and running": PlotSpec(
        unit="", lines={"waiting texts": _now("adamix_queue_rows"), "texts being generated": _now("adamix_live_rows")}
    ),
    "Batch of a classifier": PlotSpec(
        unit="", lines={"texts": _mean("adamix_batch_rows"), "adapters": _mean("adamix_batch_adapters")}
    ),
    "Latency of requests": PlotSpec(unit=" ms", lines=_percentiles("adamix_request_seconds")),
    "Time to the first token": PlotSpec(unit=" ms", lines=_percentiles("adamix_first_token_seconds")),
    "Use of the KV cache": PlotSpec(unit=" %", lines={"taken": _now("adamix_kv_cache_usage", 100)}),
    "Bank": PlotSpec(
        unit="",
        lines={
            "adapters and kept modules": _now("adamix_adapters"),
            "slots": _now("adamix_slots"),
            "slot writes a second": _rate("adamix_placed"),
        },
    ),
}
"""Plots by title; a new one is an entry here."""


@dataclass(kw_only=True)
class History:
    """Measured values that one reader has seen so far."""

    snapshots: list[Snapshot] = field(default_factory=list)
    points: dict[tuple[str, str], list[float | None]] = field(default_factory=dict)
    """Values by plot and line, one for each look."""

    def add(self, snapshot: Snapshot) -> None:
        """Take in another look at the server."""
        self.snapshots = [*self.snapshots, snapshot][-KEPT:]
        interval = last_interval(self.snapshots)
        if interval is None:
            self.snapshots = self.snapshots[-1:]
            return
        for title, spec in PLOTS.items():
            for name, measure in spec.lines.items():
                points = self.points.setdefault((title, name), [])
                points.append(measure.of(interval))
                del points[:-KEPT]


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    async def look(history: History | None) -> tuple[History, str]:
        history = history or History()
        return history, await render_next(context.client, history)

    history = gr.State(None)
    shown = gr.HTML(markup.hint(NOTHING_YET), elem_id="live-plots")
    timer = gr.Timer(EVERY, active=False)
    timer.tick(look, history, [history, shown], api_visibility="private", show_progress="hidden")
    return Parts(timers=[timer])


async def render_next(client: ServerClient, history: History) -> str:
    """Look at the server, and return the plots as HTML, or what went wrong."""
    try:
        history.add(await read_snapshot(client))
    except PageError as error:
        return markup.error(error)
    return render(history)


def render(history: History) -> str:
    """Return the plots of what was seen so far as HTML."""
    if not history.points:
        return markup.hint(NOTHING_YET)
    drawn = [_plot(title, spec, history) for title, spec in PLOTS.items()]
    return plots([one for one in drawn if one]) + f'<p class="adamix-note">{markup.escape(NOTE)}</p>'


def _plot(title: str, spec: PlotSpec, history: History) -> str:
    """Return a plot with the lines whose metric the server has; nothing if it has none."""
    server = history.snapshots[-1]
    lines = [
        Line(name=name, points=history.points[title, name])
        for name, measure in spec.lines.items()
        if server.has(measure.metric)
    ]
    return plot(title, lines, unit=spec.unit, count=KEPT) if lines else ""
