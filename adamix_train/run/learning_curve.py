"""Draw the learning curve of a run."""

from pathlib import Path
from typing import Any

LOSSES = {"loss": "training", "eval_loss": "validation"}


def draw_curve(history: list[dict[str, Any]], metric: str, file: Path) -> None:
    """Write a PNG of the losses and the validation metric over the steps, from what Trainer logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {"loss": LOSSES} | ({metric: {f"eval_{metric}": "validation"}} if metric != "loss" else {})
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, label in lines.items():
            first: dict[int, float] = {}  # later ones at the same step are of the chosen checkpoint
            for entry in history:
                if name in entry:
                    first.setdefault(entry["step"], entry[name])
            axes.plot(list(first), list(first.values()), marker=".", label=label)
        axes.set(xlabel="step", title=title)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    partial = file.with_name(file.name + ".partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(file)
