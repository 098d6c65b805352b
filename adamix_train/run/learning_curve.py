"""Draw the learning curve of a run."""

from pathlib import Path
from typing import Any

from adamix_train.artifacts.atomic_write import atomic_file

LOSSES = {"loss": "training", "eval_loss": "validation"}


def draw_curve(history: list[dict[str, Any]], metric: str, file: Path) -> None:
    """Write a PNG of the losses and the validation metric over the steps; `history` is the Trainer's log."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {"loss": LOSSES} | ({metric: {f"eval_{metric}": "validation"}} if metric != "loss" else {})
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, label in lines.items():
            first: dict[int, float] = {}  # later entries of a step are those of the best checkpoint
            for entry in history:
                if name in entry:
                    first.setdefault(entry["step"], entry[name])
            axes.plot(list(first), list(first.values()), marker=".", label=label)
        axes.set(xlabel="step", title=title)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with atomic_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
