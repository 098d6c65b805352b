"""Advice at the end of a run: it learned nothing, diverged, was short, or its validation data is too small to tell."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adamix_train.recipe.recipe import Recipe

LEARNED = 0.95
"""A loss above this share of a guesser's shows that next to nothing was learned."""
MOVED = 0.02
"""A loss that fell by less than this share barely moved."""
ROSE = 1.2
"""A training loss that ended above this multiple of its first value diverged."""
TELLS = 0.03
"""Largest standard error of an accuracy or a correlation that still tells checkpoints apart."""
SHORT = 150
"""Optimizer steps below which one adapter is to be preferred to a mixture that learns labels: `benchmarks.quality`
measured it 0.8 points better after 94 steps, and level after 188."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """Losses and metrics of a run, and the data that they were measured on."""

    recipe: Recipe
    kind: str
    """Kind of the task, a key of `tasks.kinds.TASK_KINDS`."""
    train_targets: Sequence[str]
    validation_targets: Sequence[str]
    train_losses: Sequence[float]
    """Mean loss between two evaluations, in order; it includes the consistency loss."""
    validation_losses: Sequence[float]
    metrics: dict[str, float]
    """Metrics of the best checkpoint on the validation data."""
    steps: int


def advise(course: Course) -> list[str]:
    """Return what a user should know about a run before relying on it, a sentence or two each; often nothing."""
    return [advice for rule in RULES if (advice := rule(course))]


def guessed_loss(course: Course) -> float | None:
    """Return the validation loss of a guesser that knows the training targets alone; None for texts.

    Labels are guessed by their shares (cross-entropy, in nats), with one more example of each, and scores by their mean
    (squared error).
    """
    if course.kind == "classification":
        counts = Counter(course.train_targets) + Counter(set(course.train_targets) | set(course.validation_targets))
        total = sum(counts.values())
        return sum(-math.log(counts[label] / total) for label in course.validation_targets) / len(
            course.validation_targets
        )
    if course.kind == "regression":
        mean = sum(map(float, course.train_targets)) / len(course.train_targets)
        return sum((float(score) - mean) ** 2 for score in course.validation_targets) / len(course.validation_targets)
    return None


def _has_diverged(course: Course) -> bool:
    """Return whether the training loss rose, and not only since a second view's consistency loss is added to it."""
    first, last = _ends(course.train_losses)
    validated_first, validated_last = _ends(course.validation_losses)
    return last > ROSE * first and validated_last >= validated_first


def _diverged(course: Course) -> str | None:
    if not _has_diverged(course):
        return None
    first, last = _ends(course.train_losses)
    return (
        f"The training loss rose from {first:.3g} to {last:.3g}: the run diverged. Try a quarter of --learning-rate "
        f"{course.recipe.learning_rate:g}."
    )


def _unlearned(course: Course) -> str | None:
    if _has_diverged(course):
        return None
    # With weights of labels, the validation loss of a run that learned may be above a guesser's: neither is weighted.
    guess = None if course.recipe.class_weights else guessed_loss(course)
    if guess is None:
        fell = any(_fell(losses) for losses in (course.train_losses, course.validation_losses))
        if fell or len(course.train_losses) < 2 or course.recipe.init_from:
            return None
        first, last = _ends(course.train_losses)
        found = f"The training loss barely moved, from {first:.3g} to {last:.3g}."
    else:
        if (best := min(course.validation_losses)) < LEARNED * guess:
            return None
        found = (
            f"Next to nothing was learned: the best validation loss is {best:.3g}, and answering every row by what is "
            f"frequent has {guess:.3g}."
        )
    return (
        f"{found} Try a quarter and four times --learning-rate {course.recipe.learning_rate:g}, or more --epochs "
        f"than {course.recipe.epochs:g} ({course.steps} steps); see that texts and targets belong together."
    )


def _fell(losses: Sequence[float]) -> bool:
    first, last = _ends(losses)
    return last < (1 - MOVED) * first


def _too_few(course: Course) -> str | None:
    count = len(course.validation_targets)
    for name, error_of in ERRORS.items():
        value = course.metrics.get(name)
        if value is not None and (error := error_of(value, count)) > TELLS:
            return (
                f"Validation {name} {value:.3f} is of {count} rows, with a standard error of {error:.3f}: settings "
                "that are closer cannot be told apart. Give a --validation-file, or a larger --validation-share."
            )
    return None


def _error_of_accuracy(accuracy: float, count: int) -> float:
    """Return the standard error of a share, with one right and one wrong row more: all right is not certain."""
    share = (accuracy * count + 1) / (count + 2)
    return math.sqrt(share * (1 - share) / count)


def _error_of_correlation(correlation: float, count: int) -> float:
    """Return the standard error of a correlation (Fisher), made smaller for few rows: two are always on a line."""
    certain = correlation * count / (count + 4)
    return (1 - certain**2) / math.sqrt(max(1, count - 3))


ERRORS = {"accuracy": _error_of_accuracy, "pearson": _error_of_correlation}
"""Metric → its standard error, a function of its value and the number of rows."""


def _short_for_a_mixture(course: Course) -> str | None:
    if course.kind != "classification" or not course.recipe.is_mixture or course.steps >= SHORT:
        return None
    return (
        f"{course.steps} steps are few for a mixture, whose modules share them: below {SHORT}, one adapter was the "
        f"better. Try more --epochs than {course.recipe.epochs:g}, or one adapter: --num-modules 1."
    )


def _ends(losses: Sequence[float]) -> tuple[float, float]:
    """Return the first and last loss; zeros if a run ended before any was logged."""
    return (losses[0], losses[-1]) if losses else (0.0, 0.0)


RULES: tuple[Callable[[Course], str | None], ...] = (_diverged, _unlearned, _too_few, _short_for_a_mixture)
