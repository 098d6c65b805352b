"""The weight of each module in the exported mean, chosen at export instead of in training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adamix_cli.progress_bar import progress_bar
from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import SCORES
from adamix_export.checkpoint.importers.mixture import checkpoint_tensors
from adamix_export.errors import ExportError
from adamix_export.parity.examples import files_exist
from adamix_train.data.encoding import Encoding
from adamix_train.data.examples import Example
from adamix_train.data.held_out import read_held_out
from adamix_train.data.splits import read_all, read_splits, task_of
from adamix_train.errors import DataError
from adamix_train.metrics.table import METRICS
from adamix_train.mixture.projection import mixtures
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.module_weights import Quality, choose_soup, equal_weights, set_weights

BATCH_SIZE = 32

ModuleWeights = tuple[float, ...]


def choose_module_weights(checkpoint: Checkpoint, collapse: str | None, data: Path | None = None) -> Checkpoint:
    """Return the checkpoint with the module weights that `collapse` names; None keeps those of training.

    `collapse` is a key of `MODULE_WEIGHTS`; `data` are labelled texts to choose a greedy soup on.
    """
    if data and collapse != "greedy-soup":
        raise ExportError(
            "--collapse-data is used to choose a greedy soup only: add --collapse greedy-soup, or leave it out"
        )
    if collapse is None:
        return checkpoint
    if checkpoint.card.recipe["method"] != "adamix":
        raise ExportError(f"{checkpoint.folder} is no mixture of modules: leave out --collapse")
    if checkpoint.card.recipe["routing"] == "fixed":
        raise ExportError(
            f"{checkpoint.folder} was trained on a fixed route, one module of each mixture: leave out --collapse"
        )
    return replace(checkpoint, weights=MODULE_WEIGHTS[collapse](checkpoint, data))


def uniform_weights(checkpoint: Checkpoint, data: Path | None) -> ModuleWeights:
    """Return equal weights, AdaMix's mean; empty if the checkpoint's own weights are equal."""
    count = checkpoint.num_modules
    return tuple(equal_weights(range(count), count)) if _has_learned_weights(checkpoint) else ()


def learned_weights(checkpoint: Checkpoint, data: Path | None) -> ModuleWeights:
    """Return (), which keeps the checkpoint's own weights; raise an error if none were learned."""
    if not _has_learned_weights(checkpoint):
        raise ExportError(
            f"{checkpoint.folder} has no learned weights, all of its modules weigh the same: train with --collapse "
            "learned, or export with --collapse uniform or greedy-soup"
        )
    return ()


def greedy_soup_weights(checkpoint: Checkpoint, data: Path | None) -> ModuleWeights:
    """Return equal weights for the modules that improve the validation metric, and 0 for the others."""
    examples, count = _validation_examples(checkpoint, data), checkpoint.num_modules
    model, bar = replace(checkpoint).reference, progress_bar(desc=f"choosing modules of {checkpoint.name}", unit="soup")

    def quality(chosen: list[int]) -> Quality:
        set_weights(mixtures(model), equal_weights(chosen, count))
        bar.update()
        return _quality(checkpoint, model, examples)

    with bar:
        return tuple(equal_weights(choose_soup(count, quality), count))


MODULE_WEIGHTS: dict[str, Callable[[Checkpoint, Path | None], ModuleWeights]] = {
    "uniform": uniform_weights,
    "learned": learned_weights,
    "greedy-soup": greedy_soup_weights,
}
"""Functions that return the module weights; the keys are the recipe's `COLLAPSES`."""


def _has_learned_weights(checkpoint: Checkpoint) -> bool:
    """Return True if the modules of some mixture have different weights."""
    return any(
        len(weight.unique()) > 1 for name, weight in checkpoint_tensors(checkpoint).items() if name.endswith(SCORES)
    )


def _validation_examples(checkpoint: Checkpoint, data: Path | None) -> list[Example]:
    """Return the examples in `data`, or else the run's own validation examples if its files have not changed."""
    recipe = replace(Recipe(**checkpoint.card.recipe), test_file=None)
    examples = read_all(str(data), task_of(recipe)) if data else _own_validation(checkpoint, recipe)
    checkpoint.check_labels(examples, str(data))
    return examples


def _own_validation(checkpoint: Checkpoint, recipe: Recipe) -> list[Example]:
    files = [named for named in (recipe.train_file, recipe.validation_file) if named]
    if not recipe.train_file or not all(map(files_exist, files)):
        if held_out := read_held_out(task_of(recipe), checkpoint.folder):
            return held_out
        raise ExportError(
            f"a greedy soup is chosen on validation data, and those of {checkpoint.folder} are not on this machine: "
            "name labelled texts with --collapse-data"
        )
    splits = read_splits(recipe, task_of(recipe))
    if changed := [file for file, sha256 in splits.source.items() if checkpoint.card.data.get(file) != sha256]:
        raise DataError(
            f"{changed[0]} has changed since {checkpoint.folder} was trained: name data with --collapse-data"
        )
    return splits.validation


def _quality(checkpoint: Checkpoint, model: torch.nn.Module, examples: list[Example]) -> Quality:
    """Return a classifier's metric, or the negative loss of a generative model, with the loss."""
    objective = checkpoint.objective
    logits, labels = _predict(checkpoint, model, examples)
    loss = float(objective.loss(logits, labels, label_smoothing=0.0))
    metric = -loss if objective.is_generative else METRICS[checkpoint.card.metric](logits.numpy(), np.asarray(labels))
    return Quality(metric=metric, loss=loss)


def _predict(
    checkpoint: Checkpoint, model: torch.nn.Module, examples: list[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits that count towards the objective, and their labels."""
    objective = checkpoint.objective
    encoding = Encoding(
        tokenizer=checkpoint.tokenizer,
        max_length=checkpoint.card.max_length,
        labels=checkpoint.card.labels,
        prompt=task_of(Recipe(**checkpoint.card.recipe)).prompt,
    )
    rows = sorted(objective.encode(examples, encoding), key=lambda row: len(row["input_ids"]))
    collate = objective.collate(checkpoint.tokenizer, model.base_model.model)  # type: ignore[union-attr]
    found = []
    for start in range(0, len(rows), BATCH_SIZE):
        batch = collate(rows[start : start + BATCH_SIZE])
        labels = batch.pop("labels")
        with torch.inference_mode():
            found.append(objective.rows(model(**batch).logits, labels))
    logits, targets = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(targets)
