"""Logits of a row, processed in the order of transformers' processors.

Penalties, bias and banned n-grams come first, on the logits; what is drawn from them is for `draw`. Presence and
frequency penalties are OpenAI's, which count generated tokens only; the repetition penalty counts the prompt as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.sampling_params import SamplingParams

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log probabilities at one position, as the model gives them, before penalties and temperature."""

    chosen: float
    """Log probability of the chosen token."""
    top: list[tuple[int, float]]
    """The most probable tokens with their log probabilities, best first, or the tokens that were named."""
    rank: int
    """Place of the chosen token among all by probability, from 1; tokens of one probability have one place."""


def process_logits(
    logits: Logits,
    prompt: Sequence[int],
    tokens: Sequence[int],
    sampling: SamplingParams,
    allowed: NDArray[np.bool_] | None = None,
    ids: NDArray[np.int64] | None = None,
) -> Logits:
    """Apply penalties, bias and banned n-grams.

    Args:
        logits: (count,)
        prompt: Tokens of the prompt.
        tokens: Generated tokens.
        sampling: Parameters of the request.
        allowed: (vocabulary,) True for tokens that a grammar allows; the others become minus infinity.
        ids: The tokens of the logits, ascending (count,); None are those of the whole vocabulary.

    Returns:
        A new array (count,).
    """
    scores = logits.astype(np.float32, copy=True)
    if sampling.repetition_penalty != 1:
        seen, _ = _find(ids, np.unique(np.array([*prompt, *tokens], np.int64)))
        before = scores[seen]
        scores[seen] = np.where(before < 0, before * sampling.repetition_penalty, before / sampling.repetition_penalty)
    if tokens and (sampling.presence_penalty or sampling.frequency_penalty):
        generated, counts = np.unique(np.array(tokens, np.int64), return_counts=True)
        places, found = _find(ids, generated)
        scores[places] -= sampling.presence_penalty + sampling.frequency_penalty * counts[found].astype(np.float32)
    if sampling.logit_bias:
        places, found = _find(ids, np.array(list(sampling.logit_bias), np.int64))
        scores[places] += np.array(list(sampling.logit_bias.values()), np.float32)[found]
    if banned := _banned_tokens([*prompt, *tokens], sampling.no_repeat_ngram_size):
        scores[_find(ids, np.array(banned, np.int64))[0]] = -np.inf
    if allowed is not None:
        scores[~(allowed if ids is None else allowed[ids])] = -np.inf
    return scores


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens beside the chosen one whose log probabilities a request asks for."""

    count: int
    """Number of the most probable tokens."""
    tokens: Sequence[int] = ()
    """Tokens in their place; empty for none."""


def token_logprobs(logits: Logits, token: int, wanted: Wanted) -> Logprobs:
    """Return the log probability of a token and those of the tokens that are wanted."""
    values = log_softmax(logits.astype(np.float64))
    if wanted.tokens:
        named = [(one, float(values[one])) for one in wanted.tokens]
        return Logprobs(float(values[token]), named, rank_of(values, token))
    return top_logprobs(values, token, wanted.count)


def top_logprobs(values: NDArray[np.floating], chosen: int, count: int) -> Logprobs:
    """Return the log probability at a place of `values`, and the `count` highest with their places."""
    top = np.argpartition(-values, count - 1)[:count] if count else np.empty(0, np.int64)
    top = top[np.argsort(-values[top], kind="stable")]
    best = [(int(one), float(values[one])) for one in top]
    return Logprobs(float(values[chosen]), best, rank_of(values, chosen))


def rank_of(values: NDArray[np.floating], chosen: int) -> int:
    """Return the place of a value among all that are higher or equal, from 1."""
    return 1 + int(np.count_nonzero(values > values[chosen]))


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return log probabilities (…, vocabulary), in the precision of the logits."""
    values = logits - logits.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def _find(
    ids: NDArray[np.int64] | None, tokens: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | slice]:
    """Return where tokens lie in ascending `ids`, and which of them do."""
    if ids is None:
        return tokens, slice(None)
    places = ids.searchsorted(tokens)
    found = ids.take(places, mode="clip") == tokens
    return places[found], found


def _banned_tokens(tokens: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would complete an n-gram of `size` tokens that occurred before."""
    if not size or len(tokens) < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [tokens[end] for end in range(size - 1, len(tokens)) if tuple(tokens[end - size + 1 : end]) == last]
