"""Generated texts: results of a request, and the events of a stream of them."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class FinishReason(enum.StrEnum):
    """The reason for which a sequence ended."""

    STOP = "stop"
    """The model produced an end-of-sequence token, or the text reached a stop string."""
    LENGTH = "length"
    """The sequence reached `max_new_tokens`."""
    CANCELLED = "cancelled"
    """The caller cancelled the request."""
    FAILED = "failed"
    """The sequence ended with an error."""


class TokenCandidate(NamedTuple):
    """A token that might have come at some position."""

    token: int
    text: str
    content: bytes
    """Bytes of the token, which may be a part of a character."""
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log probability of one token, before penalties and temperature."""

    token: int
    text: str
    offset: int
    """Characters of the text before this token."""
    logprob: float
    top: Sequence[TokenCandidate] = ()
    """The most probable tokens, best first, or those that the request named."""
    content: bytes = b""
    """Bytes of the token, which may be a part of a character."""
    rank: int | None = None
    """Place among all tokens by probability, from 1."""


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """One generated text."""

    adapter: str
    sha256: str
    """sha256 of the adapter's weights."""
    text: str
    tokens: Sequence[int]
    """Generated token ids, without the end-of-sequence token."""
    finish_reason: FinishReason
    prompt_tokens: int
    logprobs: Sequence[TokenLogprob] = ()
    """One entry a token of the text, if the request asked for them."""
    end_logprob: TokenLogprob | None = None
    """Log probability of the end token that `tokens` leaves out, if there was one and the request asked for them."""
    index: int = 0
    """Place among the results of the request."""
    prompt_text: str = ""
    """The prompt as the model read it."""
    prompt_ids: Sequence[int] = ()
    prompt_logprobs: Sequence[TokenLogprob | None] = ()
    """One entry a token of the prompt, if the request asked for them; None for the first."""


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The first event of a stream: the request is accepted."""

    adapter: str
    sha256: str
    prompt_tokens: int
    """Tokens of all prompts together, each counted once."""
    prompt_texts: Sequence[str]
    """The prompts as the model reads them."""
    prompt_ids: Sequence[Sequence[int]]
    """Tokens of each prompt."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of a streamed text."""

    text: str
    index: int = 0
    """Place of the text among the results of the request."""
    tokens: Sequence[int] = ()
    """Tokens that have become certain; those that no piece holds are in the result alone."""
    logprobs: Sequence[TokenLogprob] = ()
    """One entry for each of them, if the request asked for them."""


StreamEvent = StreamStart | TextDelta | GenerationResult
"""A stream is one StreamStart, then for every text any number of TextDeltas and one GenerationResult."""
