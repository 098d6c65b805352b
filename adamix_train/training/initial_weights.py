"""Begin a run with the weights of a finished one."""

from dataclasses import fields
from pathlib import Path

import peft
from safetensors.torch import load_file

from adamix_train.artifacts.checkpoint import WEIGHTS, Card, read_card
from adamix_train.errors import CheckpointError
from adamix_train.mixture.projection import mixtures
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.methods import TrainableModel

SAME = ("method", "kind", "num_modules", "r", "lora_alpha", "share", "sites", "target_modules")
"""Fields of the recipe that decide what the weights are."""


def check_initial(card: Card, recipe: Recipe) -> None:
    """Raise CheckpointError if the weights in `recipe.init_from` are not those of a model such as the new run's.

    Args:
        card: the new run's.
        recipe: the new run's.
    """
    folder = Path(str(recipe.init_from))
    begun = read_card(folder)
    for name in ("labels", "base_sha256", "config_sha256"):
        if getattr(begun, name) != getattr(card, name):
            raise CheckpointError(f"{folder} was trained with other {name}: its weights do not fit this run")
    stored = {item.name: item.default for item in fields(Recipe)} | begun.recipe
    for name in SAME:
        if stored[name] != getattr(recipe, name):
            raise CheckpointError(
                f"{folder} was trained with {name} {stored[name]!r}, and this run has {getattr(recipe, name)!r}: its "
                "weights do not fit"
            )
    if stored["routing"] == "fixed" and recipe.routing != "fixed" and recipe.is_mixture:
        raise CheckpointError(
            f"{folder} was trained on a fixed route, one module of each mixture, and this run trains all: its weights "
            "do not fit"
        )


def load_initial(model: TrainableModel, folder: Path) -> None:
    """Load the trained weights in a finished run's folder into a model that was built in the same way.

    The weights of the modules in their mean are not taken over: the new run chooses its own.
    """
    if isinstance(model, peft.PeftModel):
        result = peft.set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
    else:
        result = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    if lacking := sorted(trained & set(result.missing_keys)) + sorted(result.unexpected_keys):
        raise CheckpointError(f"the weights in {folder} do not fit: {lacking[0]}")
    for mixture in mixtures(model):
        mixture.keep_only(None)
