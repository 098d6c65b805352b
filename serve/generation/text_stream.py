"""The events of a stream, from the sequences of a request while a thread steps them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from serve.generated_text import StreamEvent, StreamStart, TextDelta
from serve.generation.detokenizer import TokenTexts
from serve.generation.request import SequenceState
from serve.generation.result import logprobs_of, results_of

Call = Callable[..., None]
"""Calls a function with arguments in the event loop, from any thread."""


class TextStream:
    """Pieces of the texts of one request, in the order in which they come."""

    def __init__(self, sequences: Sequence[SequenceState], token_texts: TokenTexts, call: Call) -> None:
        """Listen to sequences that have not begun."""
        self.sequences, self.token_texts = sequences, token_texts
        self.arrived: asyncio.Queue[tuple[int, str, int] | int] = asyncio.Queue()
        """Pieces with the index of their text and its tokens so far; an index alone is the end of that text."""
        self.sent = [0] * len(sequences)
        """Tokens of each text that events have held."""
        for index, sequence in enumerate(sequences):
            sequence.on_text = partial(self._on_text, call, index)

    async def events(self, ends: Sequence[asyncio.Task[None]]) -> AsyncIterator[StreamEvent]:
        """Yield the events of the stream; `ends` are done when the sequences are, and raise their errors."""
        for index, end in enumerate(ends):
            end.add_done_callback(lambda _, index=index: self.arrived.put_nowait(index))  # type: ignore[misc]
        yield self._start()
        left = len(self.sequences)
        while left:
            match await self.arrived.get():
                case (index, piece, tokens):
                    yield self._delta(index, piece, tokens)
                case int(index):
                    await ends[index]
                    best, *others = results_of(self.sequences[index], self.token_texts, index)
                    yield best
                    for result in others:
                        yield TextDelta(result.text, result.index, result.tokens)
                        yield result
                    left -= 1

    def _on_text(self, call: Call, index: int, piece: str) -> None:
        """Pass a piece on; called in the thread that steps."""
        tokens = self.sequences[index].detokenizer.certain_tokens
        call(self.arrived.put_nowait, (index, piece, tokens))

    def _start(self) -> StreamStart:
        first = self.sequences[0]
        each = first.sampling.n if first.sampling.num_beams == 1 else 1
        prompts = self.sequences[::each]
        return StreamStart(
            first.adapter.card.name,
            first.adapter.card.sha256,
            sum(len(one.input_tokens) for one in prompts),
            [one.prompt_text for one in prompts],
            [one.input_tokens for one in prompts],
        )

    def _delta(self, index: int, piece: str, end: int) -> TextDelta:
        sequence, first = self.sequences[index], self.sent[index]
        self.sent[index] = end
        logprobs = logprobs_of(sequence, self.token_texts, first, end)
        results = sequence.sampling.n if sequence.sampling.num_beams > 1 else 1
        return TextDelta(piece, index * results, sequence.tokens[first:end], logprobs)
