"""The README.md of a run's folder: a model card with what was trained, on what, and how well."""

from pathlib import Path
from typing import Any

from adamix_train.artifacts.atomic_write import write_text
from adamix_train.artifacts.checkpoint import Card
from adamix_train.run.summary import ON_VALIDATION, spelled_out

README = "README.md"
PAGE = """\
---
{header}
---

# {name}

{method} on `{base}`, trained by [AdaMix](https://arxiv.org/abs/2205.12410) for the task `{task}`{labels}.

| metric | value |
| --- | --- |
{metrics}

Trained on {train} examples. Checkpoints were compared on {validation}; {kept} was kept, and {tested}.
Texts are truncated to {max_length} tokens.

```bash
adamix-export {folder} bundles/{name}  # compares with PyTorch, and writes ONNX
adamix-serve bundles/{name}
```

`adamix.json` has the recipe, the data's hashes, the versions and the base's hash; `results.json` every measurement.
"""


def write_readme(card: Card, results: dict[str, Any], folder: Path) -> None:
    """Write the card over the blank template that PEFT leaves."""
    local = Path(card.base).is_dir()
    base = Path(card.base).name if local else card.base
    recipe = card.recipe
    method = recipe["method"] if recipe["method"] != "adamix" else f"{recipe['num_modules']} {recipe['kind']} modules"
    metrics = {
        spelled_out(name): value
        for name, value in results.items()
        if name in ON_VALIDATION or name.removeprefix("test_") in ON_VALIDATION
    }
    header = ["library_name: peft", *([] if local else [f"base_model: {base}"]), "tags:", "- adamix"]
    page = PAGE.format(
        header="\n".join(header),
        name=folder.resolve().name,
        folder=folder,
        method=method,
        base=base,
        task=card.task,
        labels=f", with {len(card.labels)} labels: {', '.join(card.labels[:20])}" if card.labels else "",
        metrics="\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items()),
        train=results["train_examples"],
        validation=results["validation_examples"],
        kept="the mean over steps" if recipe["average"] else "the best",
        tested=f"measured on {count} of test data" if (count := results["test_examples"]) else "there was no test data",
        max_length=card.max_length,
    )
    write_text(folder / README, page)
