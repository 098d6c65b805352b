"""Many adapters in one batch: what the bank costs against the plain graph, and against the ways without a bank.

A batch has 32 rows of 32 tokens, each row an adapter of its own. The plain graph has one adapter merged. The ways
without a bank are ONNX Runtime's own `.onnx_adapter` files, of which a run takes one, and a session for each adapter
(eight of them, since more change nothing but the memory); both run row after row. PEFT's own mixed batch
(`adapter_names`) runs LoRA in PyTorch, without the heads. Memory is that of 1,000 adapters in an engine with 64 slots,
read from disk and checked, in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import peft
import torch

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.converters.onnx_adapter import write_onnx_adapters
from benchmarks.peers import last_line
from benchmarks.support.bundles import KINDS, adapter_bytes, exported, like, trained
from benchmarks.support.classifier_sides import Feed, plain_session
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.harness import Benchmark, main
from benchmarks.support.machine import versions_of
from benchmarks.support.report import Findings, Goal, Row
from benchmarks.support.rounds import Pace, Timing, Timings, measure
from serve.bundle.adapter import read_adapter
from serve.bundle.reader import Bundle, open_bundle, with_adapters
from serve.classification.classifier import Classifier
from serve.classification.text_tokenizer import EncodedText

ROWS, TOKENS = 32, 32
SESSIONS = 8
ADAPTERS, SLOTS = 1000, 64
PLAIN, BANK, ALONE, FILES, EACH = "plain", "bank", "bank, one adapter", "onnx_adapter", "sessions"
PEFT = "peft, adapter_names"
MOST = {"lora": 1.06, "houlsby": 1.12}
"""Most time of the bank by that of the plain graph."""
MIB = 1 << 20
MEMORY = """
import gc, json, resource, sys
from pathlib import Path
from serve import Classifier

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

bundle, folder, slots = sys.argv[1:]
classifier = Classifier(bundle, provider="cpu", slots=int(slots))
classifier("a first text")
before = resident()
for adapter in Path(folder).iterdir():
    classifier.load(adapter)
print(json.dumps({"before": before, "after": resident()}))
"""


def compare_banks(pace: Pace) -> Findings:
    """Measure both kinds, and the memory of many adapters."""
    timings: Timings = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            timings |= measure({kind: sides_of(kind, Path(folder) / kind)}, pace)
        grown, size = memory_of(Path(folder) / "lora")
    return findings_of(timings, grown, size)


def sides_of(kind: str, scratch: Path) -> dict[str, Callable[[], object]]:
    """Return the calls of a kind: 32 rows by the bank and by the ways without."""
    source = trained(kind, scratch / "run")
    plain = Classifier(exported([source], "merged", scratch / "plain"), provider="cpu")
    bank = exported([source], "bank", scratch / "bank")
    folders = like(bank, ROWS, scratch / "adapters")
    many = with_adapters(bank, folders)
    classifier = Classifier(replace(many, adapters={name: many.adapters[name] for name in _names()}), provider="cpu")
    one = next(iter(plain.registry.adapters.values()))
    rows = [_row(classifier, name) for name in _names()]
    merged = [replace(row, adapter=one) for row in rows]
    same = [replace(row, adapter=rows[0].adapter) for row in rows]
    sides = {
        PLAIN: lambda: plain.run(merged),
        BANK: lambda: classifier.run(rows),
        ALONE: lambda: classifier.run(same),
        FILES: one_by_one(many, rows, scratch / "files"),
        EACH: session_each(plain.bundle, merged),
    }
    return sides | ({PEFT: mixed_by_peft(source, rows)} if kind == "lora" else {})


def mixed_by_peft(checkpoint: Checkpoint, rows: Sequence[EncodedText]) -> Callable[[], object]:
    """Return the call of PEFT's mixed batch: a LoRA of the same size for each row."""
    targets = {name.partition(f".{checkpoint.kind}.")[0] for name in checkpoint.adapter if ".down." in name}
    config = peft.LoraConfig(r=checkpoint.r, target_modules=sorted(targets), init_lora_weights=False)
    model: Any = peft.get_peft_model(checkpoint.base_model(), config, adapter_name=rows[0].adapter.card.name)
    for row in rows[1:]:
        model.add_adapter(row.adapter.card.name, config)
    model.eval()
    names = [row.adapter.card.name for row in rows]
    feeds = {
        name: torch.from_numpy(np.concatenate([feed[name] for feed in map(_feeds, rows)])) for name in _feeds(rows[0])
    }

    def run() -> object:
        with torch.inference_mode():
            return model(**feeds, adapter_names=names).logits

    return run


def one_by_one(bundle: Bundle, rows: Sequence[EncodedText], folder: Path) -> Callable[[], object]:
    """Return the call that runs each row with its `.onnx_adapter` file."""
    folder.mkdir()
    write_onnx_adapters(bundle, [row.adapter for row in rows], folder)
    session = plain_session(folder / "model.onnx")
    taken = {value.name for value in session.get_inputs()}
    options = []
    for row in rows:
        adapter, run = ort.LoraAdapter(), ort.RunOptions()
        adapter.Load(str(folder / f"{row.adapter.card.name}.onnx_adapter"))
        run.add_active_adapter(adapter)
        options.append((run, adapter, {name: value for name, value in _feeds(row).items() if name in taken}))
    return lambda: [session.run(["logits"], feeds, run)[0] for run, _, feeds in options]


def session_each(bundle: Bundle, rows: Sequence[EncodedText]) -> Callable[[], object]:
    """Return the call that runs each row in a session of its adapter."""
    sessions = [plain_session(bundle.model) for _ in range(SESSIONS)]
    taken = {value.name for value in sessions[0].get_inputs()}
    feeds = [{name: value for name, value in _feeds(row).items() if name in taken} for row in rows]
    pairs = list(zip(islice(cycle(sessions), len(rows)), feeds, strict=True))
    return lambda: [session.run(["logits"], feed)[0] for session, feed in pairs]


def memory_of(scratch: Path) -> tuple[float, float]:
    """Return the bytes that a process grew by for its adapters, and the bytes of one."""
    bundle = open_bundle(scratch / "bank")
    folders = like(bundle, ADAPTERS, scratch / "thousand")
    command = [sys.executable, "-c", MEMORY, str(bundle.folder), str(scratch / "thousand"), str(SLOTS)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BenchmarkError(f"the process with {ADAPTERS} adapters failed: {last_line(result.stderr)}")
    found = json.loads(result.stdout)
    return found["after"] - found["before"], adapter_bytes(read_adapter(folders[0]))


def findings_of(timings: Timings, grown: float, size: float) -> Findings:
    """Return the table and the goals."""
    goals = [
        Goal(
            what=f"{kind}: {ROWS} adapters in a batch by the plain graph's time",
            value=sides[BANK].seconds / sides[PLAIN].seconds,
            goal=MOST[kind],
            better="lower",
        )
        for kind, sides in timings.items()
    ]
    goals += [
        Goal(
            what=f"{kind}: throughput by that of one adapter a run (.onnx_adapter)",
            value=sides[FILES].seconds / sides[BANK].seconds,
            goal=4.0,
        )
        for kind, sides in timings.items()
    ]
    goals.append(
        Goal(
            what="lora: throughput by that of PEFT's mixed batch",
            value=timings["lora"][PEFT].seconds / timings["lora"][BANK].seconds,
            goal=10.0,
        )
    )
    goals.append(
        Goal(
            what=f"bytes for {ADAPTERS} adapters by {ADAPTERS} times those of one ({size / MIB:.2f} MiB)",
            value=grown / (ADAPTERS * size),
            goal=1.1,
            better="lower",
        )
    )
    worst = max(goals[: len(timings)], key=lambda goal: (goal.value or 0) / goal.goal)
    return Findings(
        goals=goals,
        rows=[row for kind, sides in timings.items() for row in _rows(kind, sides)],
        versions=versions_of(("torch", "peft", "onnx", "onnxruntime", "numpy")),
        worst=f"{worst.value:.3f} ({worst.what})",
    )


def _rows(kind: str, sides: dict[str, Timing]) -> list[Row]:
    plain = sides[PLAIN].seconds
    return [
        {
            "kind": kind,
            "side": name,
            "ms": timing.seconds * 1e3,
            "by_plain": timing.seconds / plain,
            "noise": timing.noise,
        }
        for name, timing in sides.items()
    ]


def _names() -> list[str]:
    return [f"a{index}" for index in range(ROWS)]


def _row(classifier: Classifier, name: str) -> EncodedText:
    """Return a row of random tokens."""
    ids = np.random.default_rng(len(name)).integers(1000, 30000, TOKENS).tolist()
    return EncodedText(ids, [0] * TOKENS, classifier.registry.find(name))


def _feeds(row: EncodedText) -> Feed:
    return {
        "input_ids": np.array([row.input_ids], np.int64),
        "attention_mask": np.ones((1, len(row)), np.int64),
        "token_type_ids": np.array([row.token_type_ids], np.int64),
    }


if __name__ == "__main__":
    main(Benchmark(name="bank", claim=str(__doc__), measure=compare_banks, rounds=11))
