"""The small tasks of the demo, written for this repository: two classify messages, one writes a text from a record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"

TASKS: dict[str, dict[str, object]] = {
    "tone": {"kind": "houlsby", "r": 16},
    "intent": {"kind": "lora", "r": 8, "lora_alpha": 16},
}
"""Classification: name → what its recipe has of its own: one adapter of each kind, for one bank."""

COMMON: dict[str, object] = {
    "num_modules": 4,
    "batch_size": 16,
    "epochs": 5,
    "learning_rate": 6e-3,
    "validation_share": 0.15,
    "max_length": 64,
}

GENERATION_TASKS: dict[str, dict[str, object]] = {
    "events": {
        "task": "generation",
        "kind": "lora",
        "r": 8,
        "lora_alpha": 16,
        "num_modules": 4,
        # One view of each batch: two take twice the time, and the demo has minutes.
        "consistency_weight": 0.0,
        "batch_size": 8,
        "length_bucketing": True,
        "epochs": 3,
        "learning_rate": 3e-3,
        "validation_share": 0.08,
        "eval_steps": 23,
        "max_length": 128,
        "max_new_tokens": 80,
    }
}
"""Data to text: name → its recipe. Records and texts are in `train.jsonl` and `test.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class DemoBundle:
    """Bank of the demo's tasks on one base."""

    base: str
    """Key of `models.MODELS`."""
    tasks: Mapping[str, Mapping[str, object]]


BUNDLES: dict[str, DemoBundle] = {
    "bank": DemoBundle(base="minilm", tasks=TASKS),
    "text-bank": DemoBundle(base="smollm2", tasks=GENERATION_TASKS),
}
"""Folder of each bundle that the demo serves → its base and tasks."""


def recipe(task: str, *, base: Path, out: Path) -> dict[str, object]:
    """Return the fields of a task's recipe; the test file is never trained or selected on."""
    fields = GENERATION_TASKS[task] if task in GENERATION_TASKS else {**COMMON, **TASKS[task]}
    files = {f"{split}_file": str(data_file(task, split)) for split in ("train", "test")}
    return {"base": str(base), "out": str(out), **files, **fields}


def data_file(task: str, split: str) -> Path:
    """Return the file of a split, `train` or `test`."""
    return DATA / task / f"{split}.{'jsonl' if task in GENERATION_TASKS else 'csv'}"
