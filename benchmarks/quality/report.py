"""The page and the picture of the protocol's results, drawn anew from the file that keeps them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adamix_train.artifacts.atomic_write import write_text
from benchmarks.quality.comparison import comparisons_of, goals_of
from benchmarks.quality.plot import draw_passes
from benchmarks.quality.protocol import CANDIDATE, METHODS
from benchmarks.quality.results import Result, rows_of
from benchmarks.support.report import table

PAGE = """\
# quality_protocol: does the mixture pay?

{runs} measured runs of [the protocol](../quality/protocol.md), which was written before them. This page and its
picture are drawn from `{results}` by `python -m benchmarks.quality --report`; with `--protocol` the runs go on.
Accuracies and their differences are in points; a calibration error is one of probabilities in [0, 1].

{different} runs differ in task, passes, method or seed; the others repeat some of these on a second device. A control
is called the strongest among those that are measured. Not measured at any budget so far: {missing}.

Runs by device: {devices}. The same seed draws other random numbers on another device, so that a run there repeats a run
here, from the search for the rate on; a seed that ran on several counts once, with the mean of its results.

## `{candidate}` against the strongest control of its size, paired by seed

{comparisons}

`best so far` takes each method at the best of the budgets that are measured, by validation loss, and a control with
those that it has of the candidate's. It is not the protocol's comparison, which wants all four.

{goals}

## Score and loss against passes

![score and test loss against passes]({picture})

## All methods

Means over seeds. The last columns of mixtures are points above the score of the mean, with the seeds that were run so.

{rows}
"""


def write_report(results: Sequence[Result], file: Path) -> None:
    """Write the page and the picture beside the results' file, with its name and the endings .md and .png."""
    if not results:
        return
    measured = {one.method for one in results}
    draw_passes(results, file.with_suffix(".png"))
    page = PAGE.format(
        runs=len(results),
        different=len({(one.task, one.passes, one.method, one.seed) for one in results}),
        missing=", ".join(f"`{name}`" for name in METHODS if name not in measured) or "none",
        results=file.name,
        devices=", ".join(
            f"{count} {device}" for device, count in sorted(Counter(one.device for one in results).items())
        ),
        candidate=CANDIDATE,
        comparisons=table(comparisons_of(results)) or "Not yet: a control is missing.",
        goals="\n".join(f"- {goal}" for goal in goals_of(results)),
        picture=file.with_suffix(".png").name,
        rows=table(rows_of(results)),
    )
    write_text(file.with_suffix(".md"), page)
