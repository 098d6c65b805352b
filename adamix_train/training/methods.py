"""The training methods: AdaMix, and the baselines that share its code path."""

import re
from collections.abc import Callable
from typing import Any

import peft

from adamix_train.base_model.load import Base
from adamix_train.errors import RecipeError
from adamix_train.peft_method import AdaMixConfig
from adamix_train.peft_method.target_modules import default_targets
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.objectives import Objective

TrainableModel = Any
"""A PreTrainedModel, or a PeftModel around one."""
HEADS = ("classifier", "score")
"""Names of heads that are trained even if the base has weights for them."""


def adamix_config(recipe: Recipe, objective: Objective, base: Base) -> AdaMixConfig:
    """Return the PEFT configuration of a recipe's mixture; with one module it is a plain adapter.

    A rank to be cut later has the scaling of the final one.
    """
    rank = recipe.expand_rank or recipe.r
    return AdaMixConfig(
        task_type=objective.task_type,
        kind=recipe.kind,
        num_modules=recipe.num_modules,
        r=rank,
        lora_alpha=recipe.lora_alpha * rank / recipe.r,
        lora_dropout=recipe.lora_dropout,
        share=recipe.share,
        near_identity=recipe.near_identity,
        seed=recipe.seed,
        sites=recipe.sites.split(",") if recipe.sites else None,
        target_modules=recipe.target_modules,
        modules_to_save=trained_heads(base) or None,
    )


def trained_heads(base: Base) -> list[str]:
    """Return the names of modules whose weights are all trained: those that the base lacks, and heads."""
    top = {name for name, _ in base.model.named_children()}
    return sorted({*base.new_modules, *(name for name in HEADS if name in top)})


def _adamix(base: Base, recipe: Recipe, objective: Objective) -> TrainableModel:
    return peft.get_peft_model(base.model, adamix_config(recipe, objective, base))


def _peft_lora(base: Base, recipe: Recipe, objective: Objective) -> TrainableModel:
    """Return the model with PEFT's own LoRA, which adapts the whole output of a fused projection."""
    targets = (
        recipe.target_modules
        or default_targets(
            recipe.sites.split(",") if recipe.sites else ("query_value",), base.model.config.model_type
        ).target_modules
    )
    config = peft.LoraConfig(
        task_type=objective.task_type,
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        modules_to_save=trained_heads(base) or None,
    )
    return peft.get_peft_model(base.model, config)


def _full(base: Base, recipe: Recipe, objective: Objective) -> TrainableModel:
    return base.model


def _head(base: Base, recipe: Recipe, objective: Objective) -> TrainableModel:
    base.model.requires_grad_(False)
    heads = trained_heads(base)
    if not heads:
        raise RecipeError("method head trains a head, and this model has none of its own: choose another --method")
    for name in heads:
        base.model.get_submodule(name).requires_grad_(True)
    return base.model


METHODS: dict[str, Callable[[Base, Recipe, Objective], TrainableModel]] = {
    "adamix": _adamix,
    "peft-lora": _peft_lora,
    "head": _head,
    "full": _full,
}


def build_trainable_model(base: Base, recipe: Recipe, objective: Objective) -> TrainableModel:
    """Return the recipe's model, in which exactly the weights that the method trains require gradients.

    Raises:
        RecipeError: the method or its target modules do not fit the base.
    """
    try:
        return METHODS[recipe.method](base, recipe, objective)
    except re.error as error:
        raise RecipeError(f"target_modules is not a regular expression: {error}") from error
    except (ValueError, TypeError) as error:
        raise RecipeError(str(error)) from error
