"""The result of one generation request."""

from dataclasses import dataclass, field

from serve.errors import InputError
from serve.generation.request import Generation
from serve.generation.sampling.logits import Logprobs
from serve.generation.sampling.params import Sampling


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for a prompt."""

    adapter: str
    sha256: str
    tokens: list[int]
    """Without the end-of-sequence token."""
    text: str
    ended: bool
    """Whether the model, or a text to stop at, ended it."""
    logprobs: list[Logprobs] = field(default_factory=list)
    """Of each token, and of the one that ended the text, if they were asked for."""


def one_answer(sampling: Sampling) -> Sampling:
    """Return what is asked for, unless it is more than one answer, which cannot be streamed."""
    if sampling.n > 1:
        raise InputError(f"n is {sampling.n}: a stream has one answer")
    return sampling


def written(generation: Generation) -> Written:
    """Return what a generation that has ended came to."""
    card = generation.adapter.card
    return Written(
        card.name,
        card.sha256,
        generation.tokens,
        generation.text.strip(),
        generation.ended == "stop",
        generation.logprobs,
    )
