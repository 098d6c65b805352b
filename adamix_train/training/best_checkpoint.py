"""Ties between checkpoints: of those with the same metric, the lowest validation loss is best, then the latest."""

from collections.abc import Mapping

from transformers import TrainerState

LOSS = "eval_loss"


def wins_tie(state: TrainerState, metric: str, evaluation: Mapping[str, float]) -> bool:
    """Return True if the newest evaluation has the best metric so far again, and a loss that is no higher.

    The best checkpoint's loss is read from the log, which a resumed run has as well.

    Args:
        state: The Trainer's state; its log has the best checkpoint's evaluation.
        metric: Name of the metric that selects the best checkpoint.
        evaluation: Metrics of the newest evaluation.
    """
    if evaluation[f"eval_{metric}"] != state.best_metric:
        return False
    best = state.best_global_step
    losses = [entry[LOSS] for entry in state.log_history if entry["step"] == best and LOSS in entry]
    return bool(evaluation[LOSS] <= losses[-1])
