"""How the next token is chosen from logits (vocabulary,): what a request asks for, in the order that transformers has.

Penalties, bias and banned n-grams come first, on the logits; then temperature, top-k, top-p and min-p. Presence and
frequency penalties are OpenAI's: they count what was written, not the prompt; the repetition penalty counts both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.generation.sampling.params import Sampling

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of one token: its logarithmic probability as the model has it, before any penalty, and the likeliest tokens'."""

    chosen: float
    likeliest: list[tuple[int, float]]


def processed(
    logits: Logits,
    prompt: Sequence[int],
    tokens: Sequence[int],
    sampling: Sampling,
    allowed: NDArray[np.bool_] | None = None,
) -> Logits:
    """Return logits after all that `sampling` does to them; tokens that are not `allowed` have minus infinity."""
    scores = logits.astype(np.float32, copy=True)
    seen = np.unique(np.array([*prompt, *tokens], np.int64))
    if sampling.repetition_penalty != 1 and seen.size:
        some = scores[seen]
        scores[seen] = np.where(some < 0, some * sampling.repetition_penalty, some / sampling.repetition_penalty)
    if tokens and (sampling.presence_penalty or sampling.frequency_penalty):
        written, counts = np.unique(np.array(tokens, np.int64), return_counts=True)
        scores[written] -= sampling.presence_penalty + sampling.frequency_penalty * counts.astype(np.float32)
    if sampling.logit_bias:
        scores[list(sampling.logit_bias)] += np.array(list(sampling.logit_bias.values()), np.float32)
    scores[_repeating([*prompt, *tokens], sampling.no_repeat_ngram_size)] = -np.inf
    if allowed is not None:
        scores[~allowed] = -np.inf
    return warped(scores, sampling) if sampling.drawn else scores


def warped(scores: Logits, sampling: Sampling) -> Logits:
    """Return scores after temperature, top-k, top-p and min-p."""
    scores = scores / np.float32(sampling.temperature)
    if 0 < sampling.top_k < scores.size:
        scores[scores < np.partition(scores, -sampling.top_k)[-sampling.top_k]] = -np.inf
    if sampling.top_p < 1:
        order = np.argsort(scores, kind="stable")
        below = probabilities(scores[order]).cumsum() <= 1 - sampling.top_p
        below[-1] = False
        scores[order[below]] = -np.inf
    if sampling.min_p:
        shares = probabilities(scores)
        scores[shares < sampling.min_p * shares.max()] = -np.inf
    return scores


def choose(scores: Logits, sampling: Sampling, random: np.random.Generator) -> int:
    """Return the next token: the likeliest, or one drawn from the distribution that the scores are the logits of."""
    if not sampling.drawn:
        return int(scores.argmax())
    ends = probabilities(scores).astype(np.float64).cumsum()
    return int(np.searchsorted(ends, random.random() * ends[-1], side="right"))


def logprobs_of(logits: Logits, token: int, most: int) -> Logprobs:
    """Return a token's logarithmic probability and those of the likeliest."""
    values = logits.astype(np.float64) - logits.max()
    values -= np.log(np.exp(values).sum())
    top = np.argpartition(-values, most - 1)[:most] if most else np.empty(0, np.int64)
    top = top[np.argsort(-values[top], kind="stable")]
    return Logprobs(float(values[token]), [(int(one), float(values[one])) for one in top])


def probabilities(scores: Logits) -> Logits:
    """Return the softmax of scores."""
    powers: Logits = np.exp(scores - scores.max())
    return powers / powers.sum()


def _repeating(tokens: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would end a run of `size` tokens that is there already."""
    if not size or len(tokens) < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [tokens[end] for end in range(size - 1, len(tokens)) if tuple(tokens[end - size + 1 : end]) == last]
