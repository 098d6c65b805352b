"""The two small tasks of the demo, written for this repository."""

from pathlib import Path

DATA = Path(__file__).parent / "data"

TASKS: dict[str, dict[str, object]] = {
    "tone": {"kind": "houlsby", "r": 16},
    "intent": {"kind": "lora", "r": 8, "lora_alpha": 16},
}
"""Name → what its recipe has of its own: one adapter of each kind, for one bank."""

COMMON: dict[str, object] = {
    "num_modules": 4,
    "batch_size": 16,
    "epochs": 5,
    "learning_rate": 6e-3,
    "validation_share": 0.15,
    "max_length": 64,
}


def recipe(task: str, *, base: Path, out: Path) -> dict[str, object]:
    """Return the fields of a task's recipe; the test file is never trained or selected on."""
    files = {"train_file": str(DATA / task / "train.csv"), "test_file": str(DATA / task / "test.csv")}
    return {"base": str(base), "out": str(out), **files, **COMMON, **TASKS[task]}
