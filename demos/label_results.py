"""Labels of the classification tasks over HTTP: how many are right, and how long a request takes."""

import csv
import hashlib
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from adamix_cli.progress_bar import progress_bar
from demos.tasks import TASKS, data_file

LATENCY_REQUESTS = 50
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class AdapterResult:
    """Results of one adapter over HTTP on its test file."""

    correct: int
    texts: int
    milliseconds: float
    """Median of single requests, one after the other."""

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.correct / self.texts


def ask(address: str) -> dict[str, AdapterResult]:
    """Send every test message, tasks mixed, in batches; then single ones for the latency."""
    cases = [(task, row["text"], row["label"]) for task in TASKS for row in _rows(task)]
    cases.sort(key=lambda case: hashlib.sha256(case[1].encode()).digest())
    correct = dict.fromkeys(TASKS, 0)
    times: dict[str, list[float]] = {task: [] for task in TASKS}
    with httpx.Client(base_url=address, timeout=60) as client:
        for start in progress_bar(range(0, len(cases), BATCH), desc="asking", unit="batch"):
            batch = cases[start : start + BATCH]
            for (task, _, label), scores in zip(batch, _predict(client, batch), strict=True):
                correct[task] += scores[0]["label"] == label
        for case in cases[:LATENCY_REQUESTS]:
            started = time.perf_counter()
            _predict(client, [case])
            times[case[0]].append(1000 * (time.perf_counter() - started))
    return {
        task: AdapterResult(correct=correct[task], texts=len(_rows(task)), milliseconds=statistics.median(times[task]))
        for task in TASKS
    }


def _predict(client: httpx.Client, cases: list[tuple[str, str, str]]) -> list[list[dict[str, Any]]]:
    body = {"inputs": [[text] for _, text, _ in cases], "adapter": [task for task, *_ in cases]}
    response = client.post("/predict", json=body)
    response.raise_for_status()
    named = response.headers["x-adapter"].split(",")
    assert named == list(dict.fromkeys(task for task, *_ in cases)), (
        "another adapter answered than the one that was named"
    )
    return response.json()


def _rows(task: str) -> list[dict[str, str]]:
    with data_file(task, "test").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def as_rows(adapters: dict[str, Any], answered: dict[str, AdapterResult], bank: Path) -> list[dict[str, Any]]:
    """Return the table's rows; `adapters` are those of the server's `/info`."""
    base_bytes = (bank / "model.onnx.data").stat().st_size
    rows = []
    for task in TASKS:
        adapter = adapters[task]
        size = (bank / "adapters" / task / "adapter.safetensors").stat().st_size
        rows.append(
            {
                "adapter": task,
                "kind": adapter["kind"],
                "labels": len(adapter["labels"]),
                "test_texts": answered[task].texts,
                "accuracy_pytorch": adapter["metrics"]["test_accuracy"],
                "accuracy_served": answered[task].accuracy,
                "largest_logit_difference": adapter["parity"]["max_difference"],
                "adapter_bytes": size,
                "adapter_share_of_base": size / base_bytes,
                "latency_ms": answered[task].milliseconds,
            }
        )
    return rows


def format_table(rows: list[dict[str, Any]], bank: Path) -> str:
    """Return the table and its notes."""
    base = (bank / "model.onnx.data").stat().st_size / 2**20
    head = (
        f"   {'adapter':<8} {'kind':<8} {'labels':>6} {'texts':>6} {'PyTorch':>8} {'served':>8} {'max diff':>9} "
        f"{'size':>8} {'of base':>8} {'latency':>9}"
    )
    lines = [
        f"   {row['adapter']:<8} {row['kind']:<8} {row['labels']:>6} {row['test_texts']:>6} "
        f"{row['accuracy_pytorch']:>8.3f} {row['accuracy_served']:>8.3f} {row['largest_logit_difference']:>9.1e} "
        f"{row['adapter_bytes'] / 2**10:>4.0f} KiB {row['adapter_share_of_base']:>8.2%} {row['latency_ms']:>6.1f} ms"
        for row in rows
    ]
    notes = (
        f"   The base has {base:.0f} MiB and is there once. PyTorch: accuracy on the test file before export; served:\n"
        "   the same over HTTP from ONNX Runtime. Latency: median of single requests, tokenization and HTTP included."
    )
    return "\n".join(["", head, *lines, "", notes])
