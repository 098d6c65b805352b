"""Choose the weights of the modules in their mean when exporting, whatever the training chose."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adamix_export.checkpoint.checkpoint import Source
from adamix_export.checkpoint.collapse import SCORES
from adamix_export.errors import ExportError
from adamix_train.data.encoding import Encoding
from adamix_train.data.examples import Example
from adamix_train.data.splits import read_all, read_splits, task_of
from adamix_train.errors import DataError
from adamix_train.metrics.table import METRICS
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.module_weights import Quality, choose_soup, equal_weights, mixtures, set_weights

ROWS = 32

Shares = tuple[float, ...]


def weigh(source: Source, collapse: str | None, data: Path | None = None) -> Source:
    """Return `source` with the modules weighed as `collapse`, a key of COLLAPSES, says; None leaves them as trained."""
    if data and collapse != "greedy-soup":
        raise ExportError(
            "--collapse-data is what a greedy soup is chosen on: add --collapse greedy-soup, or leave it out"
        )
    if collapse is None:
        return source
    if source.card.recipe["routing"] == "fixed":
        raise ExportError(
            f"{source.folder} was trained on a fixed route, one module of each mixture: leave out --collapse"
        )
    return replace(source, shares=COLLAPSES[collapse](source, data))


def mean_shares(source: Source, data: Path | None) -> Shares:
    """Return equal weights: the mean of AdaMix, whatever the checkpoint learned; () where they are so already."""
    count = source.config.num_modules
    return tuple(equal_weights(range(count), count)) if _has_weights(source) else ()


def learned_shares(source: Source, data: Path | None) -> Shares:
    """Return (), the checkpoint's own weights, or an error if it has learned none."""
    if not _has_weights(source):
        raise ExportError(
            f"{source.folder} has no learned weights, all of its modules weigh the same: train with --collapse "
            "learned, or export with --collapse mean or greedy-soup"
        )
    return ()


def soup_shares(source: Source, data: Path | None) -> Shares:
    """Return equal weights for the modules that help on validation data, none for the others."""
    examples, count = _validation(source, data), source.config.num_modules
    model, bar = replace(source).reference, tqdm(desc=f"weighing {source.name}", unit="soup")

    def quality(chosen: list[int]) -> Quality:
        set_weights(mixtures(model), equal_weights(chosen, count))
        bar.update()
        return _quality(source, model, examples)

    with bar:
        return tuple(equal_weights(choose_soup(count, quality), count))


COLLAPSES: dict[str, Callable[[Source, Path | None], Shares]] = {
    "mean": mean_shares,
    "weights": learned_shares,
    "greedy-soup": soup_shares,
}


def _has_weights(source: Source) -> bool:
    """Return whether a checkpoint weighs some of its modules otherwise than others."""
    return any(len(weight.unique()) > 1 for name, weight in source.tensors.items() if name.endswith(SCORES))


def _validation(source: Source, data: Path | None) -> list[Example]:
    """Return the examples of `data`, else those that the run itself validated on, if its files are as they were."""
    recipe = replace(Recipe(**source.card.recipe), test_file=None)
    examples = read_all(str(data), task_of(recipe)) if data else _own_validation(source, recipe)
    if source.card.labels and (strange := sorted({one.target for one in examples} - set(source.card.labels))):
        raise DataError(f"{data} has labels that {source.name} does not know: {', '.join(strange[:5])}")
    return examples


def _own_validation(source: Source, recipe: Recipe) -> list[Example]:
    named = [
        file.strip() for files in (recipe.train_file, recipe.validation_file) if files for file in files.split(",")
    ]
    if not recipe.train_file or not all(Path(file).is_file() for file in named):
        raise ExportError(
            f"a greedy soup is chosen on validation data, and those of {source.folder} are not on this machine: name "
            "labelled texts with --collapse-data"
        )
    splits = read_splits(recipe, task_of(recipe))
    if changed := [file for file, sha256 in splits.source.items() if source.card.data.get(file) != sha256]:
        raise DataError(f"{changed[0]} has changed since {source.folder} was trained: name data with --collapse-data")
    return splits.validation


def _quality(source: Source, model: torch.nn.Module, examples: list[Example]) -> Quality:
    """Return the metric of a classifier, or less the loss of a model that writes, and the loss."""
    objective, recipe = source.objective, Recipe(**source.card.recipe)
    encoding = Encoding(
        tokenizer=source.tokenizer,
        max_length=source.card.max_length,
        labels=source.card.labels,
        prompt=task_of(recipe).prompt,
    )
    rows = sorted(objective.encode(examples, encoding), key=lambda row: len(row["input_ids"]))
    collate = objective.collate(source.tokenizer, model.base_model.model)  # type: ignore[union-attr]
    found = []
    for start in range(0, len(rows), ROWS):
        batch = collate(rows[start : start + ROWS])
        labels = batch.pop("labels")
        with torch.inference_mode():
            found.append(objective.rows(model(**batch).logits, labels))
    logits, labels = (torch.cat(side) for side in zip(*found, strict=True))
    loss = float(objective.loss(logits, labels, label_smoothing=0.0))
    metric = -loss if objective.is_generative else METRICS[source.card.metric](logits.numpy(), np.asarray(labels))
    return Quality(metric=metric, loss=loss)
