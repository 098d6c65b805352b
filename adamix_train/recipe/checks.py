"""Checks of a recipe's values: their ranges, and fields that contradict each other."""

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from adamix_train.errors import RecipeError
from adamix_train.peft_method.target_modules import SITES
from adamix_train.readers.reader import DELIMITERS
from adamix_train.recipe.average import Average

if TYPE_CHECKING:
    from adamix_train.recipe.recipe import Recipe

POSITIVE = (
    "num_modules",
    "r",
    "module_rate",
    "expand_rank",
    "batch_size",
    "eval_batch_size",
    "gradient_accumulation",
    "max_length",
    "train_limit",
    "shots",
    "epochs",
    "eval_steps",
    "early_stopping",
    "num_beams",
    "max_new_tokens",
)
NOT_NEGATIVE = (
    "consistency_weight",
    "consistency_from",
    "split_after",
    "pull",
    "learning_rate",
    "weight_decay",
    "warmup_ratio",
    "lora_dropout",
    "base_dropout",
    "label_smoothing",
    "no_repeat_ngram_size",
    "seed",
)
BELOW_ONE = ("warmup_ratio", "lora_dropout", "base_dropout", "label_smoothing", "consistency_from", "split_after")
OF_MODULES = {"split_after": 0.0, "pull": 0.0, "module_rate": 1.0}
"""Fields that say what several modules do, with the value that asks for nothing."""


def check(recipe: "Recipe") -> None:
    """Raise RecipeError if a field is outside its range, or two fields contradict each other."""
    for item in fields(recipe):
        value, choices = getattr(recipe, item.name), item.metadata["choices"]
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{item.name} is {value}; it must be a finite number")
        if choices and value not in choices and not (value is None and item.default is None):
            raise RecipeError(f"{item.name} is {value!r}; known are {', '.join(choices)}")
    for name in POSITIVE:
        value = getattr(recipe, name)
        if value is not None and value <= 0:
            raise RecipeError(f"{name} is {value}; it must be positive")
    for name in NOT_NEGATIVE:
        value = getattr(recipe, name)
        if value is not None and value < 0:
            raise RecipeError(f"{name} is {value}; it must not be negative")
    for name in BELOW_ONE:
        value = getattr(recipe, name)
        if value is not None and value >= 1:
            raise RecipeError(f"{name} is {value}; it must be below 1")
    if recipe.average is not None:
        Average.parse(recipe.average)
    if problem := _problem(recipe) or _conflict(recipe):
        raise RecipeError(problem)


def _problem(recipe: "Recipe") -> str | None:
    """Return what is wrong with a field that has a rule of its own."""
    if not 0 < recipe.validation_share < 1:
        return f"validation_share is {recipe.validation_share}; it must be between 0 and 1"
    if recipe.prompt is not None and "{input}" not in recipe.prompt:
        return f"prompt is {recipe.prompt!r}; it must contain {{input}}, where the input goes"
    if recipe.delimiter is not None and len(DELIMITERS.get(recipe.delimiter, recipe.delimiter)) != 1:
        return f"delimiter is {recipe.delimiter!r}; it takes one character, or {', '.join(DELIMITERS)}"
    if recipe.seed >= 1 << 32:
        return f"seed is {recipe.seed}; it must be below {1 << 32}"
    if unknown := [site for site in (recipe.sites or "").split(",") if site and site not in SITES]:
        return f"sites names {unknown[0]!r}; known are {', '.join(SITES)}"
    return None


def _conflict(recipe: "Recipe") -> str | None:
    """Return what is wrong with two fields that contradict each other."""
    one_route = recipe.routing == "fixed"
    if one_route and recipe.collapse != "uniform":
        return (
            f"collapse is {recipe.collapse}, but a fixed route trains one module of each mixture, so there are no "
            "modules to weigh: leave --collapse out, or choose another --routing"
        )
    if one_route and recipe.split_after:
        return "split_after trains one module and then all, but a fixed route trains one: choose another --routing"
    if one_route and recipe.pull:
        return "pull moves modules to their mean, but a fixed route trains one of them: choose another --routing"
    for name, off in OF_MODULES.items():
        if not recipe.is_mixture and getattr(recipe, name) != off:
            return f"{name} is {getattr(recipe, name)}, but this run trains no mixture of several modules"
    wide, plain = recipe.expand_rank, recipe.method == "adamix" and recipe.kind == "lora" and recipe.num_modules == 1
    if wide is not None and not (plain and wide > recipe.r):
        return (
            f"expand_rank is {wide}; it takes one LoRA, and more than its r of {recipe.r}: --kind lora --num-modules 1"
        )
    if wide is not None and recipe.init_from is not None:
        return f"expand_rank trains {wide} ranks, and {recipe.init_from} has weights of {recipe.r}: give one of the two"
    return None
