"""Eight texts through eight adapters in one batch, against the ways without a bank.

One is the plain graph with an adapter merged, which gives all eight rows to one adapter: what the bank costs. The
others are peers: onnxruntime-genai with ONNX Runtime's `.onnx_adapter` files and openvino-genai, of which a batch takes
one, so that eight adapters are eight batches of a row each, one after another; and vLLM's build for CPUs, whose batch
takes eight as ours does. A text is a prompt of 32 tokens and 49 generated tokens.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adamix_export.converters.genai import write_genai
from adamix_export.converters.peft_lora import write_peft
from benchmarks.peers import PEERS, versions_with
from benchmarks.support.generation_sides import (
    BASE,
    Ours,
    Write,
    bank_of_writers,
    exported,
    genai_on,
    openvino,
    present,
    prompts,
    trained_writer,
    vllm,
)
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.report import Absent, Findings, Goal
from benchmarks.support.rounds import Call, Pace, Reported, Timings, measure
from demos.models import sample_model
from serve.bundle.reader import Bundle
from serve.limits import GenerationLimits

ADAPTERS = 8
PROMPT, NEW = 32, 48
MERGED, BANK, SAME = "merged", "bank", "bank, one adapter"
GENAI, OPENVINO = (f"{name}, one adapter at a time" for name in ("genai", "openvino_genai"))
VLLM = "vllm, all adapters in a batch"
MOST = 1.15
"""Goal: at most this multiple of the merged graph's time."""
PACKAGES = ("onnxruntime", "numpy", "torch", "transformers")
WRONG = "it generates other tokens than ours through {} of {} adapters: times do not compare"


Job = dict[str, Any]


def one_at_a_time(write: Write, job: Job, names: Sequence[str]) -> list[dict[str, Any]]:
    """Do a job row after row, each through its adapter."""
    return [write({**job, "rows": [row], "adapter": name}) for row, name in zip(job["rows"], names, strict=True)]


def all_at_once(write: Write, job: Job, names: Sequence[str]) -> list[dict[str, Any]]:
    """Do a job in one batch, each row through its adapter."""
    return [write({**job, "adapters": names})]


def genai_files(stack: ExitStack, bank: Bundle, folder: Path) -> Write:
    """Return genai on the bank's graph, with an `.onnx_adapter` file for each adapter."""
    PEERS["genai"].require()
    folder.mkdir(parents=True)
    write_genai(bank, list(bank.adapters.values()), folder)
    return genai_on(stack, folder)


def peft_files(
    stack: ExitStack, bank: Bundle, folder: Path, *, opener: Callable[..., Write], **options: str | None
) -> Write:
    """Return a peer on the base, with a PEFT checkpoint for each adapter."""
    for name, adapter in bank.adapters.items():
        (folder / name).mkdir(parents=True)
        write_peft(bank, [adapter], folder / name)
    return opener(stack, sample_model(BASE), adapters=folder, **options)


@dataclass(frozen=True, kw_only=True)
class BankPeer:
    """A peer with the bank's adapters."""

    open: Callable[[ExitStack, Bundle, Path], Write]
    """Opens it with a bank's adapters, written into a new folder."""
    do: Callable[[Write, Job, Sequence[str]], list[dict[str, Any]]] = one_at_a_time
    goal: float
    """Our throughput should be at least this many times its own."""
    differing: int = 0
    """Texts that may differ from ours: with weights of few bits, rounding may choose between two likely tokens."""


SIDES: dict[str, dict[str, BankPeer]] = {
    "fp32": {
        GENAI: BankPeer(open=genai_files, goal=3.0),
        OPENVINO: BankPeer(open=partial(peft_files, opener=openvino, precision="fp32", hint="f32"), goal=4.0),
        VLLM: BankPeer(open=partial(peft_files, opener=vllm, precision="float32"), do=all_at_once, goal=2.0),
    },
    "int4": {
        GENAI: BankPeer(open=genai_files, goal=3.0, differing=ADAPTERS // 2),
        OPENVINO: BankPeer(open=partial(peft_files, opener=openvino, precision="int4"), goal=4.0, differing=ADAPTERS),
    },
}
"""Peers by the precision of the base's weights; openvino-genai quantises the base in its own way."""


def compare_banks(pace: Pace) -> Findings:
    """Measure every precision."""
    timings: Timings = {}
    absent: list[Absent] = []
    with tempfile.TemporaryDirectory() as folder:
        source = trained_writer(Path(folder) / "run")
        for precision, peers in SIDES.items():
            scratch = Path(folder) / precision
            merged = exported(source, precision, "merged", scratch / "merged")
            bank = bank_of_writers(source, precision, ADAPTERS, scratch / "bank")
            with ExitStack() as stack:
                sides, missing = sides_of(stack, merged, bank, scratch / "peers", peers)
                timings |= measure({precision: sides}, pace)
            absent += [Absent(peer=f"{one.peer}, {precision}", reason=one.reason) for one in missing]
    return findings_of(timings, absent)


def sides_of(
    stack: ExitStack, merged: Bundle, bank: Bundle, scratch: Path, peers: Mapping[str, BankPeer]
) -> tuple[dict[str, Call], list[Absent]]:
    """Return the calls that generate eight texts, and the peers that are missing."""
    limits = GenerationLimits(max_batch_requests=ADAPTERS, prefix_tokens=0)
    plain, many = Ours(merged, limits).write, Ours(bank, limits).write
    names = list(bank.adapters)
    job = {"do": "write", "rows": prompts(Ours(bank, limits).generator, ADAPTERS, PROMPT), "new": NEW}
    sides: dict[str, Call] = {
        MERGED: lambda: Reported(seconds_of(plain(job))),
        BANK: lambda: Reported(seconds_of(many({**job, "adapters": names}))),
        SAME: lambda: Reported(seconds_of(many({**job, "adapters": names[:1] * ADAPTERS}))),
    }
    opened, absent = present({name: partial(peer.open, stack, bank, scratch / name) for name, peer in peers.items()})
    ours = many({**job, "adapters": names})["tokens"]
    for name, write in opened.items():
        do = partial(peers[name].do, write, job, names)
        theirs = [tokens for found in do() for tokens in found["tokens"]]
        wrong = sum(one != other for one, other in zip(ours, theirs, strict=True))
        if wrong > peers[name].differing:
            absent.append(Absent(peer=name, reason=WRONG.format(wrong, ADAPTERS)))
        else:
            sides[name] = partial(_timed, do)
    return sides, absent


def _timed(do: Callable[[], list[dict[str, Any]]]) -> Reported:
    return Reported(sum(map(seconds_of, do())))


def seconds_of(found: Mapping[str, float]) -> float:
    """Return the time of a job."""
    return found["whole"] if "whole" in found else found["prefill"] + found["decode"]


def findings_of(timings: Timings, absent: list[Absent]) -> Findings:
    """Return the table and the goals."""
    costs, gains = [], []
    for precision, sides in timings.items():
        bank = sides[BANK].seconds
        costs.append(
            Goal(
                what=f"{precision}: {ADAPTERS} rows of {ADAPTERS} adapters by the merged graph's time",
                value=bank / sides[MERGED].seconds,
                goal=MOST,
                better="lower",
            )
        )
        gains += [
            Goal(
                what=f"{precision}: throughput by that of {name}",
                value=sides[name].seconds / bank if name in sides else None,
                goal=peer.goal,
            )
            for name, peer in SIDES[precision].items()
        ]
    worst = max(costs, key=lambda goal: goal.value or 0)
    return Findings(
        goals=[*costs, *gains],
        rows=[
            {
                "precision": precision,
                "side": name,
                "ms": timing.seconds * 1e3,
                "by_merged": timing.seconds / sides[MERGED].seconds,
                "noise": timing.noise,
            }
            for precision, sides in timings.items()
            for name, timing in sides.items()
        ],
        versions=versions_with(PACKAGES, (name for sides in timings.values() for name in sides)),
        worst=f"{worst.value:.3f} ({worst.what})",
        absent=absent,
    )


if __name__ == "__main__":
    main(Benchmark(name="generate_bank", claim=str(__doc__), measure=compare_banks, rounds=7))
