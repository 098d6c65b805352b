"""The consistency loss between two views of a batch; it works with any model, mixture or not."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def two_views(inputs: dict[str, Any]) -> dict[str, Any]:
    """Repeat every tensor (batch, …) of `inputs` as (2·batch, …): both views of a step in one forward pass.

    One pass keeps both under one route, which gradient checkpointing then finds again, and inside one call of a
    data-parallel wrapper. Dropout differs between the copies as it would between two passes.
    """
    return {name: torch.cat([value, value]) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def consistency_loss(logits: Tensor, other: Tensor) -> Tensor:
    """Return ½ [KL(q‖p) + KL(p‖q)] of two views' logits (batch, classes), a scalar: mean over rows, sum over classes.

    The target of each direction is detached, as in the original, so that the gradient is ½ (p − q) / batch for the
    first view and its negative for the second.
    """
    log_p, log_q = functional.log_softmax(logits.float(), -1), functional.log_softmax(other.float(), -1)
    to_p = functional.kl_div(log_p, log_q.detach(), log_target=True, reduction="batchmean")
    to_q = functional.kl_div(log_q, log_p.detach(), log_target=True, reduction="batchmean")
    return (to_p + to_q) / 2
