"""The consistency loss between two views of a batch (AdaMix, section 3.2), for models with or without mixtures."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adamix_train.errors import RecipeError
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.objectives import Objective


def two_views(inputs: dict[str, Any]) -> dict[str, Any]:
    """Repeat every tensor (batch, …) of `inputs` to (2·batch, …): both views of a step in one forward pass.

    One pass has one route for both views, which gradient checkpointing finds again when it recomputes a layer, and is
    one call of a data-parallel wrapper. Dropout differs between the copies as it would between two passes.
    """
    return {name: torch.cat([value, value]) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def consistency_loss(logits: Tensor, other: Tensor) -> Tensor:
    """Return ½ [KL(q‖p) + KL(p‖q)] of two views' logits (rows, classes), a scalar: mean over rows, sum over classes.

    The target of each direction is detached, as in the original, so that the gradient is ½ (p − q) / rows for the
    first view and its negative for the second.
    """
    log_p, log_q = functional.log_softmax(logits.float(), -1), functional.log_softmax(other.float(), -1)
    to_p = functional.kl_div(log_p, log_q.detach(), log_target=True, reduction="batchmean")
    to_q = functional.kl_div(log_q, log_p.detach(), log_target=True, reduction="batchmean")
    return (to_p + to_q) / 2


def resolve_consistency_weight(recipe: Recipe, objective: Objective) -> float:
    """Return the recipe's weight of the consistency loss; by default the original's for a mixture, otherwise 0.

    Raises:
        RecipeError: the recipe asks for a consistency loss and the objective has none.
    """
    if recipe.consistency_weight and not objective.consistency_weight:
        raise RecipeError(
            f"consistency_weight is {recipe.consistency_weight}, and a regression has no consistency loss: the softmax "
            "of its one output is 1 in both views; leave it out"
        )
    if recipe.consistency_weight is not None:
        return recipe.consistency_weight
    return objective.consistency_weight if recipe.is_mixture else 0.0
