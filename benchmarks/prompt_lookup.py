"""Texts with guesses from their own prompts, against the same texts without: records, copies, and nothing repeated.

The writer is the demo's: SmolLM2 with a LoRA of its 200 records, merged. A case's texts end where the model ends them,
and are compared token for token. Each side is an engine that has been running for a while.

The time is that of one thread on a core, without that of other programs: it is compared where many share the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from benchmarks.support.generation_sides import e2e_inputs, exported
from benchmarks.support.harness import STDOUT, publish
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal
from benchmarks.support.rounds import Timing
from demos.models import sample_model
from demos.records import read_records
from demos.tasks import data_file, recipe
from serve.bundle.reader import Bundle
from serve.generation.detokenizer import IncrementalDetokenizer
from serve.generation.generator import Generator
from serve.generation.request import SequenceState
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams

WRITER, BASE = "events", "smollm2"
PRECISIONS = ("w8a8", "int4", "fp32")
TEXTS, QUICK_TEXTS, ROUNDS = 24, 4, 3
NEW = 64
"""Most tokens of a text."""
ROWS = (1, 4)
SIDES: dict[str, GenerationLimits] = {
    "without": GenerationLimits(prefix_tokens=0),
    "with": GenerationLimits(prefix_tokens=0, prompt_lookup=7),
}
GOAL, LEAST = 1.5, 0.98
"""Times as many tokens a second: of E2E's texts in integers and one row, and of any texts."""
GREEDY: Mapping[str, Any] = {}
Prompts = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Texts of one kind."""

    prompts: Callable[[Generator], Prompts]
    sampling: Mapping[str, Any]


def _records(generator: Generator) -> Prompts:
    return [generator.prompt(one.input).input_ids for one in read_records(data_file(WRITER, "test"))]


def _e2e(generator: Generator) -> Prompts:
    return [generator.prompt(one).input_ids for one in e2e_inputs()]


def _copies(generator: Generator) -> Prompts:
    """Return texts that stand twice in their prompt, which the model goes on with."""
    texts = [one.target for one in read_records(data_file(WRITER, "test"))]
    return [generator.tokenizer.encode(f"{text}\n{text}\n").ids for text in texts]


CASES: dict[str, Case] = {
    "E2E's records": Case(prompts=_e2e, sampling=GREEDY),
    "records of the demo": Case(prompts=_records, sampling=GREEDY),
    "records, sampled": Case(prompts=_records, sampling={"temperature": 0.8, "top_p": 0.95, "seed": 1}),
    "copies of a text": Case(prompts=_copies, sampling=GREEDY),
    "nothing repeated": Case(
        prompts=_records, sampling={"temperature": 1.5, "seed": 1, "no_repeat_ngram_size": 2, "ignore_eos": True}
    ),
}
"""Texts by what they are."""
Key = tuple[str, str, int, str]
"""Precision, case, rows and side."""


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON object as the command line asks."""
    args = _parser().parse_args(argv)
    command = (
        "python -m benchmarks.prompt_lookup" + " --quick" * args.quick + (f" --run {args.run}" if args.run else "")
    )
    publish("prompt_lookup", command, lambda: measure(args.run, quick=args.quick), json_to=args.json)


def measure(run: Path | None, *, quick: bool) -> Findings:
    """Export the writer, train it before if there is no run of it, and measure every case."""
    with tempfile.TemporaryDirectory() as folder:
        if run is None:
            run = Path(folder) / "run"
            train(Recipe(**recipe(WRITER, base=sample_model(BASE), out=run)))  # type: ignore[arg-type]
        source = open_checkpoint(str(run))
        bundles = {name: exported(source, name, "merged", Path(folder) / name) for name in PRECISIONS}
        return findings_of(*compare(bundles, quick=quick))


def compare(bundles: Mapping[str, Bundle], *, quick: bool) -> "tuple[dict[Key, Timing], dict[Key, Written]]":
    """Return the times of bundles by their precision, and what they have written."""
    texts, rounds = (QUICK_TEXTS, 1) if quick else (TEXTS, ROUNDS)
    times: dict[Key, Timing] = {}
    written: dict[Key, Written] = {}
    with progress_bar(total=len(bundles) * (rounds + 1) * len(CASES) * len(ROWS), desc="measuring") as bar:
        for precision, bundle in bundles.items():
            generator = Generator(bundle, provider="cpu", threads=1)
            engines = {
                name: ContinuousBatchScheduler(generator.model, limits, generator.tokenizer)
                for name, limits in SIDES.items()
            }
            prompts = {name: case.prompts(generator)[:texts] for name, case in CASES.items()}
            for number in range(rounds + 1):
                for name, case in CASES.items():
                    for rows in ROWS:
                        found = _both(generator, engines, prompts[name], case.sampling, rows)
                        bar.update()
                        for side, one in found.items() if number else ():  # the first round only warms up
                            times.setdefault((precision, name, rows, side), Timing()).turns.append(one.seconds)
                            written[precision, name, rows, side] = one
    return times, written


@dataclass(frozen=True)
class Written:
    """Texts of a side, and their time."""

    seconds: float
    tokens: list[list[int]]
    counts: tuple[int, int, int]
    """Tokens, guessed ones, and accepted ones."""


def _both(
    generator: Generator,
    engines: Mapping[str, ContinuousBatchScheduler],
    prompts: Prompts,
    sampling: Mapping[str, Any],
    rows: int,
) -> dict[str, Written]:
    """Return what both sides write, in batches of so many rows, one side's batch after the other's."""
    found: dict[str, list[Written]] = {side: [] for side in engines}
    for at in range(0, len(prompts), rows):
        order = list(engines) if at // rows % 2 else list(engines)[::-1]
        for side in order:
            found[side].append(_write(generator, engines[side], prompts[at : at + rows], sampling))
    return {side: _together(parts) for side, parts in found.items()}


def _together(parts: Sequence[Written]) -> Written:
    tokens = [row for part in parts for row in part.tokens]
    counted = [sum(numbers) for numbers in zip(*(part.counts for part in parts), strict=True)]
    return Written(sum(part.seconds for part in parts), tokens, (counted[0], counted[1], counted[2]))


def _write(
    generator: Generator, engine: ContinuousBatchScheduler, prompts: Prompts, sampling: Mapping[str, Any]
) -> Written:
    """Return what an engine writes from prompts in one batch, and the time from their first tokens on."""
    (adapter,) = generator.registry.adapters.values()
    parameters = SamplingParams(max_new_tokens=NEW, **sampling)
    texts: list[SequenceState] = []
    for place, prompt in enumerate(prompts):
        seed = None if parameters.seed is None else parameters.seed + place
        detokenizer = IncrementalDetokenizer(generator.token_texts.decoders[True]())
        texts.append(SequenceState(prompt, adapter, replace(parameters, seed=seed), detokenizer))
    engine.submit(*texts)
    begin = time.thread_time()
    while engine.busy:
        engine.step()
    seconds = time.thread_time() - begin
    tokens = sum(len(text.token_times) for text in texts)
    lines = [row for text in texts for row in text.rows]
    counts = (tokens, sum(row.guessed_tokens for row in lines), sum(row.accepted_tokens for row in lines))
    return Written(seconds, [text.tokens for text in texts], counts)


def findings_of(times: Mapping[Key, Timing], written: Mapping[Key, Written]) -> Findings:
    """Return the table and the goals."""
    table: list[dict[str, object]] = []
    ratios: dict[tuple[str, str, int], float] = {}
    for (precision, case, rows, side), timing in times.items():
        if side != "with":
            continue
        plain = times[precision, case, rows, "without"]
        ours, theirs = written[precision, case, rows, side], written[precision, case, rows, "without"]
        tokens, guessed, accepted = ours.counts
        same = [one == other for one, other in zip(ours.tokens, theirs.tokens, strict=True)]
        rates = tokens / timing.seconds, theirs.counts[0] / plain.seconds
        ratio = ratios[precision, case, rows] = rates[0] / rates[1]
        table.append(
            {
                "precision": precision,
                "texts": case,
                "rows": rows,
                "tokens_per_second": rates[0],
                "without": rates[1],
                "ratio": ratio,
                "noise": timing.noise,
                "guessed": guessed / tokens,
                "accepted": accepted / tokens,
                "equal": sum(same) / len(same),
            }
        )
    worst = min(ratios, key=lambda key: ratios[key])
    first = {name: (name, next(iter(CASES)), 1) for name in PRECISIONS if name != "fp32"}
    return Findings(
        goals=[
            *(
                Goal(
                    what=f"E2E's records in {name}, one row, by the time without guesses", value=ratios[key], goal=GOAL
                )
                for name, key in first.items()
                if key in ratios
            ),
            Goal(what=f"the least of all: {', '.join(map(str, worst))} rows", value=ratios[worst], goal=LEAST),
        ],
        rows=table,
        versions=versions_of(("onnxruntime", "numpy")),
        worst=f"{ratios[worst]:.3f} ({', '.join(map(str, worst))} rows)",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompt_lookup", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TEXTS} texts of each case, once")
    parser.add_argument("--run", type=Path, help="run of the demo's writer, such as demo/events (default: train it)")
    parser.add_argument("--json", metavar=f"FILE|{STDOUT}", help="write one JSON object; with - to stdout")
    return parser


if __name__ == "__main__":
    main()
