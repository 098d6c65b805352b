"""Bases and checkpoints with random weights, so that nothing has to be trained to be measured."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from adamix_train.artifacts.checkpoint import Card, write_card
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.load import load_base
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS
from adamix_train.training.methods import build_trainable_model
from adamix_train.training.objectives import objective_of
from benchmarks.gpu.models import CLASSIFICATION, GENERATION, WEIGHTS, BundlePlan, Model

LABELS = ("no", "yes")
STD = 0.02
"""Standard deviation of an adapter's weights."""
MAX_LENGTH = 128
CLASSES: dict[str, Callable[..., Any]] = {
    CLASSIFICATION: AutoModel.from_config,
    GENERATION: AutoModelForCausalLM.from_config,
}
"""Makers of a base from its configuration by task; a classifier's head is the checkpoint's."""


def make_weights(model: Model, base: Path) -> None:
    """Write random weights beside a base's configuration, unless there are weights."""
    if (base / WEIGHTS).is_file():
        return
    torch.manual_seed(0)
    CLASSES[model.task](AutoConfig.from_pretrained(base)).save_pretrained(base)


def make_checkpoint(plan: BundlePlan, model: Model, base: Path, folder: Path) -> Path:
    """Write the checkpoint of a mixture with random weights, as a run of adamix-train would leave it."""
    recipe = Recipe(
        base=str(base), out=str(folder), task=model.task, num_modules=1, max_length=MAX_LENGTH, **plan.adapter
    )
    task = TASKS[recipe.task]
    objective = objective_of(task.kind, encoder_decoder=False)
    labels = list(LABELS) if model.task == CLASSIFICATION else []
    torch.manual_seed(0)
    trainable = build_trainable_model(load_base(base, objective.model, **objective.settings(labels)), recipe, objective)
    _draw(trainable)
    trainable.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    card = Card(
        base=str(base),
        base_sha256=base_sha256(base),
        config_sha256=config_sha256(base),
        data={},
        task=recipe.task,
        labels=labels,
        metric=task.metrics[0],
        max_length=recipe.max_length,
        recipe=asdict(recipe),
    )
    write_card(folder, card)
    return folder


@torch.no_grad()
def _draw(model: Any) -> None:
    """Draw the adapters' weights: those that start with zeros would leave the base as it is."""
    for module in model.modules():
        if isinstance(module, MixtureLinear):
            module.weight.normal_(std=STD)
