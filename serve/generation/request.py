"""One text that is being written, from its prompt to its end, and the rows of the cache that it is written in."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from serve.bundle.adapter import Adapter
from serve.errors import InputError, failure
from serve.generation.detokenizer import TextStream
from serve.generation.sampling.beam_search import Beams
from serve.generation.sampling.logits import Logits, Logprobs, choose, logprobs_of, processed
from serve.generation.sampling.params import Sampling
from serve.generation.sampling.structured_output import Guide

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Generation:
    """One text that is being written."""

    prompt: Sequence[int]
    """What the decoder reads first: after an encoder, its start token."""
    adapter: Adapter
    sampling: Sampling
    stream: TextStream
    source: Sequence[int] = ()
    """What the encoder reads."""
    guide: Guide | None = None
    on_text: Callable[[str], None] = lambda piece: None
    """Called with each new piece of the text, in the thread that steps."""
    on_end: Callable[[], None] = lambda: None
    tokens: list[int] = field(default_factory=list)
    """Without the token that ended the text."""
    logprobs: list[Logprobs] = field(default_factory=list)
    ended: str | None = None
    """"stop" (the model or a stop text ended it), "length", "cancelled" or "failed"."""
    error: Exception | None = None
    cancelled: bool = False
    most: int = 0
    """Tokens that it may come to; set when it is submitted."""
    submitted: float = 0.0
    """When it came, in seconds of `time.monotonic`…"""
    began: float | None = None
    """…when its first token was written…"""
    finished: float | None = None
    """…and when it ended."""
    slot: int = 0
    held: ExitStack = field(default_factory=ExitStack)
    """What keeps the adapter in its slot."""
    rows: list["Row"] = field(default_factory=list)
    """Those that write it: one for each beam."""
    beams: Beams | None = None
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.Generator(np.random.Philox(self.sampling.seed))

    @property
    def text(self) -> str:
        """What was written so far."""
        return self.stream.text

    @property
    def reads(self) -> Sequence[int]:
        """The tokens that are read before the first is written."""
        return self.source or self.prompt

    @property
    def length(self) -> int:
        """Tokens of the cache that a row may come to need."""
        return len(self.prompt) + self.most

    def take(self, logits: Logits, likeliest: int) -> None:
        """Choose the next token from logits (vocabulary,), of which `likeliest` is the place of the largest."""
        sampling, token = self.sampling, likeliest
        if not sampling.plain:
            allowed = self.guide.allowed() if self.guide else None
            scores = processed(logits, self.prompt, self.tokens, sampling, allowed)
            if not np.isfinite(scores.max()):
                raise InputError("what the request excludes leaves no token that may come next")
            token = choose(scores, sampling, self.random)
            if self.guide:
                self.guide.take(token)
        if sampling.logprobs is not None:
            self.logprobs.append(logprobs_of(logits, token, sampling.logprobs))
        self.write(token)

    def write(self, token: int) -> None:
        """Add a token and see whether it ends the text."""
        self.began = self.began or time.monotonic()
        if token in self.adapter.card.eos_token_ids:
            self.end("stop")
            return
        self.tokens.append(token)
        if piece := self.stream.push(token):
            self.on_text(piece)
        if self.stream.stopped:
            self.end("stop")
        elif len(self.tokens) == self.most:
            self.end("length")

    def end(self, reason: str) -> None:
        """End the text, unless it has ended."""
        if self.ended is not None:
            return
        try:
            if piece := self.stream.end():
                self.on_text(piece)
        except Exception:
            logger.exception("the end of a text of adapter %s is lost", self.adapter.card.name)
        self.finished, self.ended = time.monotonic(), reason
        self.held.close()
        self.on_end()

    def fail(self, error: BaseException) -> None:
        """End the text with an error: one of serving's as it is, any other as `Failed`."""
        if self.ended is not None:
            return
        self.error = failure(error, "the text cannot be written")
        self.end("failed")


def cancel(generations: Sequence[Generation]) -> None:
    """Have texts that nobody waits for leave at the next step."""
    for generation in generations:
        generation.cancelled = True


@dataclass(eq=False)
class Row:
    """A row of the cache."""

    generation: Generation
    tokens: list[int]
    """That were written in it; the newest is not yet in the cache."""
    read: int = 0
    """Tokens of the prompt that are in the cache."""

    @property
    def length(self) -> int:
        """Tokens that it has in the cache."""
        return self.read + max(0, len(self.tokens) - 1)
