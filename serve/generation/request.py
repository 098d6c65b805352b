"""One text being generated, from its prompt to its end, and the rows of the KV cache that hold it."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serve.bundle.adapter import Adapter
from serve.errors import GenerationFailed, as_serve_error
from serve.generated_text import FinishReason
from serve.generation.detokenizer import IncrementalDetokenizer
from serve.generation.sampling.beam_search import BeamSearch
from serve.generation.sampling.choice import Choice, KnownRow, choose, score, wanted_logprobs
from serve.generation.sampling.logits import Logprobs
from serve.generation.sampling.structured_output import GrammarState
from serve.generation.sampling.token_mask import TokenMask
from serve.limits import DEFAULT_MAX_NEW_TOKENS
from serve.request_context import RequestContext, current_request
from serve.sampling_params import SamplingParams
from serve.share import Share

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SequenceState:
    """The state of one text being generated."""

    prompt: Sequence[int]
    """Tokens that the decoder processes first; behind an encoder, its start token."""
    adapter: Adapter
    sampling: SamplingParams
    detokenizer: IncrementalDetokenizer
    source: Sequence[int] = ()
    """Tokens of the encoder's input; empty for a decoder alone."""
    forced: Sequence[int] = ()
    """Tokens of the prompt behind `prompt` that are read one by one, so that their log probabilities are known."""
    prompt_text: str = ""
    grammar: GrammarState | None = None
    mask: TokenMask | None = None
    priority: int = 0
    """Sequences of a lower number are begun before others that wait."""
    cache_salt: str = ""
    on_text: Callable[[str], None] = lambda piece: None
    """Called with each new piece of text, in the thread that steps."""
    on_end: Callable[[], None] = lambda: None
    """Called when the sequence ends, in the thread that steps."""
    new_tokens: list[int] = field(default_factory=list)
    """Tokens behind `prompt`, without the one that ended the text: those that are forced, then the generated ones."""
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    """One entry a forced token."""
    logprobs: list[Logprobs] = field(default_factory=list)
    """One entry a generated token, the last one included, if the request asked for them."""
    end_token: int | None = None
    """Token that ended the text and is not part of it."""
    finish_reason: FinishReason | None = None
    """None while the sequence waits or runs."""
    error: Exception | None = None
    cancelled: bool = False
    """The next step removes the sequence."""
    default_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    """Most tokens to generate where the request does not say how many."""
    max_new_tokens: int = 0
    """Most tokens to generate; set when the sequence is submitted."""
    overtaken: int = 0
    """Sequences that came later and began earlier, because this one had no room."""
    share: Share = field(default_factory=lambda: Share(rows=1))
    """That of its request."""
    tenant: str = ""
    """Owner of its turns: the request's API key, or the sequence's adapter on a server without keys."""
    arrival_time: float = 0.0
    """Time at which the request came, in seconds of `time.monotonic`, as the other times."""
    submit_time: float = 0.0
    begin_time: float | None = None
    """Time at which it left the queue."""
    cached_tokens: int | None = None
    """Tokens of the prompt whose states came from the prefix cache; None if it was not asked."""
    first_token_time: float | None = None
    token_times: list[float] = field(default_factory=list)
    """Times of the generated tokens, the one that ended the text included."""
    finish_time: float | None = None
    batch_rows: int = 0
    """Rows that decoded when it joined them, its own included."""
    batch_adapters: Sequence[str] = ()
    """Adapters of those rows."""
    request: RequestContext | None = field(default_factory=lambda: current_request.get())
    """The request of a protocol that it belongs to."""
    slot: int = 0
    """Slot of the adapter in the bank."""
    acquired: ExitStack = field(default_factory=ExitStack)
    """Keeps the adapter in its slot until the sequence ends."""
    rows: list["CacheRow"] = field(default_factory=list)
    """Rows of the KV cache, one for each beam."""
    beam_search: BeamSearch | None = None
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.Generator(np.random.Philox(self.sampling.seed))
        eos = () if self.sampling.ignore_eos else self.adapter.card.eos_token_ids
        self.ends = frozenset([*eos, *self.sampling.stop_token_ids])
        """Tokens that end the text."""

    @property
    def tokens(self) -> list[int]:
        """Generated tokens, without the one that ended the text."""
        return self.new_tokens[len(self.forced) :] if self.forced else self.new_tokens

    @property
    def is_reading(self) -> bool:
        """Not all tokens of the prompt have been read."""
        return len(self.new_tokens) < len(self.forced)

    @property
    def text(self) -> str:
        """The generated text so far."""
        return self.detokenizer.text

    @property
    def input_tokens(self) -> Sequence[int]:
        """Tokens of the input: the encoder's, or the prompt's for a decoder alone."""
        return self.source or self.whole_prompt

    @property
    def whole_prompt(self) -> Sequence[int]:
        """Tokens of the decoder's prompt, forced ones included."""
        return [*self.prompt, *self.forced] if self.forced else self.prompt

    @property
    def max_length(self) -> int:
        """Most tokens that a row may need in the KV cache: prompt + `max_new_tokens`."""
        return len(self.prompt) + len(self.forced) + self.max_new_tokens

    @cached_property
    def reads_logits(self) -> bool:
        """More than the likeliest token is needed to choose the next one, or to report it."""
        return not self.sampling.is_greedy or self.sampling.reports_any

    def choose_token(self, rows: Iterable[KnownRow], likeliest: int, *, draw: float | None = None) -> None:
        """Choose and append the next token, or take it from the prompt while this is being read.

        Args:
            rows: What is known of the logits, each row more than the one before; the last is whole.
            likeliest: Index of the largest logit.
            draw: The number to draw with; None takes the next one.

        Raises:
            InputError: The request excludes every token, or its grammar cannot be followed.
        """
        if self.is_reading:
            self._read_token(rows)
            return
        if draw is None:
            draw = self.random.random() if self.sampling.is_sampling else 0.0
        choice = Choice(
            prompt=self.whole_prompt,
            tokens=self.tokens,
            sampling=self.sampling,
            likeliest=likeliest,
            allowed=self._allowed(),
            draw=draw,
        )
        token, logprobs = choose(rows, choice)
        if self.grammar:
            self.grammar.accept(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        self.append(token)

    def append(self, token: int) -> None:
        """Append a token, and end the sequence if that token, a stop string or `max_new_tokens` ends it."""
        self.token_times.append(time.monotonic())
        if self.first_token_time is None:
            self.first_token_time = self.token_times[0]
        ends = token in self.ends
        if not ends or self.sampling.include_stop_str_in_output:
            self.new_tokens.append(token)
            if piece := self.detokenizer.push(token):
                self.on_text(piece)
        else:
            self.end_token = token
        if ends or self.detokenizer.stopped:
            self.finish(FinishReason.STOP)
        elif len(self.new_tokens) == len(self.forced) + self.max_new_tokens:
            self.finish(FinishReason.LENGTH)

    def finish_if_read(self) -> None:
        """End a sequence that generates nothing once its prompt is read."""
        if self.max_new_tokens == 0 and not self.is_reading:
            self.finish(FinishReason.LENGTH)

    def finish(self, reason: FinishReason) -> None:
        """End the sequence and release its adapter, unless it has ended before."""
        if self.finish_reason is not None:
            return
        try:
            if piece := self.detokenizer.end():
                self.on_text(piece)
        except Exception:
            logger.exception("the end of a text of adapter %s is lost", self.adapter.card.name)
        self.finish_time, self.finish_reason = time.monotonic(), reason
        self.acquired.close()
        self.on_end()

    def fail(self, error: BaseException) -> None:
        """End the sequence with an error: a ServeError as it is, any other as a GenerationFailed."""
        if self.finish_reason is None:
            self.error = as_serve_error(error, GenerationFailed, "the text cannot be generated")
            self.finish(FinishReason.FAILED)

    def _read_token(self, rows: Iterable[KnownRow]) -> None:
        """Append the next token of the prompt."""
        token = self.forced[len(self.new_tokens)]
        wanted = wanted_logprobs(self.sampling, self.sampling.prompt_logprobs)
        assert wanted is not None
        self.prompt_logprobs.append(score(rows, token, wanted))
        self.new_tokens.append(token)
        self.finish_if_read()

    def _allowed(self) -> NDArray[np.bool_] | None:
        """Return a mask (vocabulary,) of the tokens that may come next; None allows all."""
        masks = [self.grammar.allowed()] if self.grammar else []
        if self.mask is not None:
            masks.append(self.mask.allowed(self.tokens))
        return np.logical_and.reduce(masks) if masks else None


@dataclass(eq=False)
class CacheRow:
    """A row of the KV cache."""

    sequence: SequenceState
    tokens: list[int]
    """Generated tokens of this row; the newest is not in the cache yet."""
    prompt_tokens: int = 0
    """Tokens of the prompt that are in the cache."""
    guessed_tokens: int = 0
    """Tokens that were verified because the prompt or the text itself foretold them."""
    accepted_tokens: int = 0
    """Those of them that are in the text."""

    @property
    def cached_tokens(self) -> int:
        """Tokens that are in the cache before the next run."""
        return self.prompt_tokens + max(0, len(self.tokens) - 1)

    @property
    def total_tokens(self) -> int:
        """Tokens that are in the cache after the next run."""
        return self.prompt_tokens + len(self.tokens)

    @property
    def source(self) -> Sequence[int]:
        """Tokens of the encoder's input."""
        return self.sequence.source

    @property
    def slot(self) -> int:
        """Slot of the adapter in the bank."""
        return self.sequence.slot


def sequences_of(rows: Iterable[CacheRow]) -> list[SequenceState]:
    """Return the sequences of rows, each once: a beam search has several rows."""
    return list(dict.fromkeys(row.sequence for row in rows))


def cancel(sequences: Iterable[SequenceState]) -> None:
    """Mark sequences so that the next step removes them."""
    for sequence in sequences:
        sequence.cancelled = True
