"""Decoding in fp16 at batch 1, 8 and 64: greedy, sampled, through a bank, with slot writes, and against `generate`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmarks.gpu.bundles import open_prepared, with_many
from benchmarks.gpu.ceilings import COPY, ceilings, copy_rate
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.torch_sides import Generate, load_decoder, require_agreement
from benchmarks.roofline import read_by_a_step
from benchmarks.support.errors import PeerError
from benchmarks.support.generation_sides import Ours
from benchmarks.support.report import Absent, Row
from benchmarks.support.rounds import Call, Pace, Reported, Timing, Timings, measure
from serve.bundle.adapter import Adapter
from serve.bundle.config import vocab_size
from serve.bundle.reader import Bundle
from serve.generation.prompts import Prompt
from serve.generation.scheduler import ContinuousBatchScheduler
from serve.limits import GenerationLimits

BATCHES, TINY_BATCHES = (1, 8, 64), (1, 2)
PROMPT, NEW, TINY_NEW = 32, 16, 4
ROUNDS = 3
"""Most rounds: a turn of `generate` takes more than a second."""
LIMITS = GenerationLimits(
    max_batch_requests=64, max_tokens_in_flight=1 << 15, max_queued_requests=64, prefill_chunk=1 << 12, prefix_tokens=0
)
OURS, BANK, STATIC, GENERATE = "adamix, merged", "adamix, bank", "generate, static cache", "generate"
SAMPLED, SAMPLING = "adamix, merged, sampled", {"temperature": 1.0, "top_k": 50, "seed": 0}
"""Sampled rows, from the candidates alone: with random weights, most of the tokens are about as probable."""
STEP, WRITE = "step", "step and slot write"
WRITE_ROWS, WRITE_NEW, TINY_WRITE_NEW = 8, 256, 8
LARGEST = "gpt2-medium"
"""The model whose bytes a second are held against the copy."""
NOTES = (
    "Milliseconds are of a step, which gives every row a token; prompts have 32 tokens, and the cache grows by 16.",
    "Sampled rows take top_k 50 at temperature 1; the others are greedy.",
    "generate compiles its static cache in parts of their own, at batch 1: a batch takes the compiler a minute.",
)


class Decoder(Ours):
    """Our engine with the scheduler that it serves with, whose caches and captured steps stay from job to job."""

    def scheduler(self) -> ContinuousBatchScheduler:
        """Return the engine's own scheduler."""
        return self.generator.scheduler


def measure_small(setting: Setting) -> Outcome:
    """Measure SmolLM2."""
    return _measure("smollm2", setting)


def measure_large(setting: Setting) -> Outcome:
    """Measure the GPT-2-medium shape."""
    return _measure("gpt2-medium", setting)


def measure_static_small(setting: Setting) -> Outcome:
    """Measure SmolLM2 against the peer that compiles."""
    return _measure_static("smollm2", setting)


def measure_static_large(setting: Setting) -> Outcome:
    """Measure the GPT-2-medium shape against the peer that compiles."""
    return _measure_static("gpt2-medium", setting)


def _measure(model: str, setting: Setting) -> Outcome:
    merged = Decoder(open_prepared(f"{model}-merged", setting), LIMITS, provider=setting.provider)
    bundle = open_prepared(f"{model}-bank", setting)
    cases = _cases(merged, bundle, _peer(model, merged, setting), setting)
    timings = measure({**cases, "copy": {COPY: ceilings(setting)[COPY]}}, _pace(setting))
    timings["slot write"] = slot_write(bundle, setting)
    moved = read_by_a_step(merged.generator.bundle, 1)
    floor = moved / copy_rate(setting, timings["copy"][COPY])
    notes = [*NOTES, f"A step at batch 1 reads {moved / 1e6:.0f} MB."]
    return Outcome(rows=table_of(timings, model), figures=figures_of(timings, model, floor), notes=notes)


def _measure_static(model: str, setting: Setting) -> Outcome:
    """Measure batch 1, where the goal is, after the compiler's minute or more."""
    new = TINY_NEW if setting.tiny else NEW
    merged = Decoder(open_prepared(f"{model}-merged", setting), LIMITS, provider=setting.provider)
    rows, case = prompts(merged.generator.bundle, 1), case_of(1)
    static = replace(_peer(model, merged, setting), static=True)
    sides = {OURS: _timed(merged, rows, new)}
    absent = []
    try:
        static.prepare(rows, new)
        sides[STATIC] = _peer_call(static, rows, new)
    except PeerError as error:
        absent.append(Absent(peer=f"{STATIC}, {model}", reason=str(error)))
    timings = measure({case: sides}, _pace(setting))
    return Outcome(rows=table_of(timings, model), figures=static_figures_of(timings, model), absent=absent, notes=NOTES)


def _pace(setting: Setting) -> Pace:
    return replace(setting.pace, rounds=min(ROUNDS, setting.pace.rounds))


def _cases(merged: Decoder, bundle: Bundle, peer: Generate, setting: Setting) -> dict[str, dict[str, Call]]:
    """Return the sides of every batch; the largest has the bank too."""
    batches = TINY_BATCHES if setting.tiny else BATCHES
    new = TINY_NEW if setting.tiny else NEW
    bank = Decoder(with_many(bundle, max(batches)), LIMITS, provider=setting.provider)
    cases: dict[str, dict[str, Call]] = {}
    for count in batches:
        rows = prompts(bundle, count)
        cases[case_of(count)] = {
            OURS: _timed(merged, rows, new),
            SAMPLED: _timed(merged, rows, new, sampling=SAMPLING),
            GENERATE: _peer_call(peer, rows, new),
        }
    for count in (min(batches), max(batches)):
        rows = prompts(bundle, count)
        cases[f"reading {count} prompts"] = {OURS: _reading(merged, rows), GENERATE: partial(peer.last_logits, rows)}
    names = [f"a{index}" for index in range(max(batches))]
    cases[case_of(max(batches))][BANK] = _timed(bank, prompts(bundle, max(batches)), new, adapters=names)
    return cases


def figures_of(timings: Timings, model: str, floor: float) -> dict[str, float]:
    """Return the figures of goals; `floor` is the seconds in which a copy moves a step's bytes."""
    first = timings[case_of(1)]
    figures = {f"slot_write_{model}": slot_seconds(timings["slot write"]) * 1e3}
    last = timings.get(case_of(max(BATCHES)))
    if last:
        figures[f"decode_bank_{model}"] = last[BANK].seconds / last[OURS].seconds
        figures[f"decode_batch_{model}"] = max(BATCHES) * first[OURS].seconds / last[OURS].seconds
    if model == LARGEST:
        figures["decode_bandwidth"] = floor / first[OURS].seconds
    return figures


def static_figures_of(timings: Timings, model: str) -> dict[str, float]:
    """Return the figure of the goal against the peer that compiles; none if it failed."""
    sides = timings[case_of(1)]
    return {f"decode_static_{model}": sides[STATIC].seconds / sides[OURS].seconds} if STATIC in sides else {}


def slot_seconds(sides: Mapping[str, Timing]) -> float:
    """Return the seconds that a slot write adds to a step; never below 0."""
    return max(0.0, sides[WRITE].seconds - sides[STEP].seconds)


def table_of(timings: Timings, model: str) -> list[Row]:
    """Return one row for each side of each case."""
    return [
        {
            "model": model,
            "case": case,
            "side": side,
            "ms": timing.seconds * 1e3,
            "tokens_a_second": rows_in(case) / timing.seconds if rows_in(case) else "",
            "by_first": timing.seconds / next(iter(sides.values())).seconds,
            "noise": timing.noise,
        }
        for case, sides in timings.items()
        for side, timing in sides.items()
    ]


def case_of(count: int) -> str:
    """Return what a case is called."""
    return f"batch {count}"


def rows_in(case: str) -> int:
    """Return the rows of a case; 0 for one that decodes no batch."""
    return int(case.removeprefix("batch ")) if case.startswith("batch ") else 0


def prompts(bundle: Bundle, count: int) -> list[list[int]]:
    """Return prompts of random tokens (count, 32)."""
    random = np.random.default_rng(0)
    return random.integers(5, vocab_size(bundle) or 50257, (count, PROMPT)).tolist()


def slot_write(bundle: Bundle, setting: Setting) -> dict[str, Timing]:
    """Return the times of a step with and without a slot write before it."""
    count = 2 if setting.tiny else WRITE_ROWS
    pace = Pace(rounds=setting.pace.rounds, turn_seconds=setting.pace.turn_seconds, rest_seconds=0.0)
    decoder = Decoder(with_many(bundle, count + 2), LIMITS, slots=count + 1, provider=setting.provider)
    steps = Steps(decoder, prompts(bundle, count), TINY_WRITE_NEW if setting.tiny else WRITE_NEW)
    return measure({STEP: {STEP: steps.step, WRITE: steps.write_and_step}}, pace)[STEP]


@dataclass
class Steps:
    """A batch that decodes for as long as it is measured, each row of a bank through an adapter of its own."""

    decoder: Decoder
    rows: Sequence[Sequence[int]]
    new: int
    """Tokens after which the batch begins anew, which is not timed."""
    is_bank: bool = True
    writes: int = field(default=0, init=False)

    def step(self) -> Reported:
        """Decode one token of every row."""
        self._begin()
        start = time.perf_counter()
        self.decoder.scheduler().step()
        return Reported(time.perf_counter() - start)

    def write_and_step(self) -> Reported:
        """Write an adapter that is in no slot into one, and decode one token of every row."""
        self._begin()
        adapter = self._next()
        start = time.perf_counter()
        bank = self.decoder.generator.bank
        assert bank is not None
        bank.place([adapter])
        self.decoder.scheduler().step()
        return Reported(time.perf_counter() - start)

    def _next(self) -> Adapter:
        """Return in turn the two adapters that no row uses and that share the only free slot."""
        self.writes += 1
        return self.decoder.generator.registry.find(f"a{len(self.rows) + self.writes % 2}")

    def _begin(self) -> None:
        scheduler = self.decoder.scheduler()
        if scheduler.busy:
            return
        names = [f"a{index}" if self.is_bank else None for index in range(len(self.rows))]
        texts = [self.decoder.begun(row, self.new, name) for row, name in zip(self.rows, names, strict=True)]
        for text in texts:
            scheduler.submit(text)
        while not all(text.tokens for text in texts):
            scheduler.step()


def _peer(model: str, merged: Decoder, setting: Setting) -> Generate:
    """Return the peer, whose logits agree with ours."""
    peer = Generate(load_decoder(setting.merged(model), setting), setting)
    rows = prompts(merged.generator.bundle, 2)
    adapter = merged.generator.registry.find(None)
    logits = merged.generator.forced_logits([Prompt(row, adapter) for row in rows], [[0], [0]])
    require_agreement(np.concatenate(logits), peer.last_logits(rows), f"{model}: ours and {GENERATE}")
    return peer


def _timed(decoder: Decoder, rows: list[list[int]], new: int, **others: object) -> Call:
    job = {"rows": rows, "new": new, **others}
    return lambda: Reported(decoder.write(job)["decode"] / new)


def _reading(decoder: Decoder, rows: list[list[int]]) -> Call:
    return lambda: Reported(decoder.write({"rows": rows, "new": 1})["prefill"])


def _peer_call(generate: Generate, rows: list[list[int]], new: int) -> Call:
    return lambda: Reported(generate.write(rows, new)["decode"] / new)
