"""The choice of the next token from logits (vocabulary,), in the order of transformers' processors.

Penalties, bias and banned n-grams come first, on the logits; then temperature, top-k, top-p and min-p. Presence and
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
    """The most probable tokens with their log probabilities, best first."""


def process_logits(
    logits: Logits,
    prompt: Sequence[int],
    tokens: Sequence[int],
    sampling: SamplingParams,
    allowed: NDArray[np.bool_] | None = None,
) -> Logits:
    """Apply penalties, bias, banned n-grams and, where tokens are sampled, the warpers.

    Args:
        logits: (vocabulary,)
        prompt: Tokens of the prompt.
        tokens: Generated tokens.
        sampling: Parameters of the request.
        allowed: (vocabulary,) True for tokens that a grammar allows; the others become minus infinity.

    Returns:
        A new array (vocabulary,).
    """
    scores = logits.astype(np.float32, copy=True)
    seen = np.unique(np.array([*prompt, *tokens], np.int64))
    if sampling.repetition_penalty != 1 and seen.size:
        before = scores[seen]
        scores[seen] = np.where(before < 0, before * sampling.repetition_penalty, before / sampling.repetition_penalty)
    if tokens and (sampling.presence_penalty or sampling.frequency_penalty):
        generated, counts = np.unique(np.array(tokens, np.int64), return_counts=True)
        scores[generated] -= sampling.presence_penalty + sampling.frequency_penalty * counts.astype(np.float32)
    if sampling.logit_bias:
        scores[list(sampling.logit_bias)] += np.array(list(sampling.logit_bias.values()), np.float32)
    scores[_banned_tokens([*prompt, *tokens], sampling.no_repeat_ngram_size)] = -np.inf
    if allowed is not None:
        scores[~allowed] = -np.inf
    return apply_warpers(scores, sampling) if sampling.is_sampling else scores


def apply_warpers(scores: Logits, sampling: SamplingParams) -> Logits:
    """Return scores (vocabulary,) after temperature, top-k, top-p and min-p."""
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


def sample_token(scores: Logits, sampling: SamplingParams, random: np.random.Generator) -> int:
    """Return the most probable token or, where tokens are sampled, one drawn from the softmax of the scores."""
    if not sampling.is_sampling:
        return int(scores.argmax())
    cumulative = probabilities(scores).astype(np.float64).cumsum()
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def token_logprobs(logits: Logits, token: int, count: int) -> Logprobs:
    """Return the log probability of a token and those of the `count` most probable ones."""
    values = log_softmax(logits.astype(np.float64))
    top = np.argpartition(-values, count - 1)[:count] if count else np.empty(0, np.int64)
    top = top[np.argsort(-values[top], kind="stable")]
    return Logprobs(float(values[token]), [(int(one), float(values[one])) for one in top])


def probabilities(scores: Logits) -> Logits:
    """Return the softmax of scores (vocabulary,)."""
    powers: Logits = np.exp(scores - scores.max())
    return powers / powers.sum()


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return log probabilities (…, vocabulary), in the precision of the logits."""
    values = logits - logits.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def _banned_tokens(tokens: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would complete an n-gram of `size` tokens that occurred before."""
    if not size or len(tokens) < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [tokens[end] for end in range(size - 1, len(tokens)) if tuple(tokens[end - size + 1 : end]) == last]
