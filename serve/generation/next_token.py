"""The next token of a sequence, from the logits of a step."""

import logging

from serve.errors import GenerationFailed, ServeError
from serve.generation.request import SequenceState
from serve.generation.step_outputs import StepLogits

logger = logging.getLogger(__name__)


def check_finite(sequence: SequenceState, logits: StepLogits, places: list[int]) -> None:
    """Raise a GenerationFailed if the logits at some places of a step are not finite."""
    if not (logits.all_finite or logits.is_finite[places].all()):
        raise GenerationFailed(f"adapter {sequence.adapter.card.name} gives logits that are not finite")


def choose_next(sequence: SequenceState, logits: StepLogits, place: int, *, draw: float | None = None) -> None:
    """Choose and append the next token of a sequence, from finite logits at a place of a step.

    Args:
        sequence: A sequence without a beam search.
        logits: Logits of the step.
        place: Place of the sequence's logits.
        draw: The number to draw with; None takes the next one.

    Raises:
        InputError: The request excludes every token, or its grammar cannot be followed.
    """
    if sequence.max_new_tokens == 0 and not sequence.is_reading:
        sequence.finish_if_read()
    elif sequence.reads_logits:
        sequence.choose_token(logits.known(place), int(logits.likeliest[place]), draw=draw)
    else:
        sequence.append(int(logits.likeliest[place]))


def fail(sequence: SequenceState, error: Exception) -> None:
    """End a sequence with an error; one that is no ServeError is unexpected, and logged."""
    if not isinstance(error, ServeError):
        name, extra = sequence.adapter.card.name, {"request": sequence.request}
        logger.error("a text of adapter %s failed", name, exc_info=error, extra=extra)
    sequence.fail(error)
