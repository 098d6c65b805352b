"""A text as it is written: whole characters only, and nothing that a stop text may still take back."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """Turns tokens into text, piece by piece; the pieces together are the text."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, list(stop)
        self.stream = DecodeStream(skip_special_tokens=True)
        self.tokens: list[int] = []
        self.offsets: list[int] = []
        """Of each token in the text: how many characters were written before it."""
        self.text = ""
        """What was written, without a stop text."""
        self.given = 0
        """Characters of it that were returned."""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now and was not before."""
        self.tokens.append(token)
        self.offsets.append(len(self.text))
        piece = self.stream.step(self.tokenizer, token) or ""
        return self._add(piece, end=False)

    def end(self) -> str:
        """Return the rest: what was held back for a stop text, and bytes that are no character, as replacements."""
        whole = self.tokenizer.decode(self.tokens)
        rest = whole[len(self.text) :] if not self.stopped and whole.startswith(self.text) else ""
        return self._add(rest, end=True)

    def _add(self, piece: str, *, end: bool) -> str:
        begin = max(0, len(self.text) - max(map(len, self.stop), default=0) + 1)
        if not self.stopped:
            self.text += piece
            found = [at for stop in self.stop if (at := self.text.find(stop, begin)) >= 0]
            if found:
                self.text, self.stopped = self.text[: min(found)], True
        certain = len(self.text) if end or self.stopped else len(self.text) - self._doubtful()
        new = self.text[self.given : certain]
        self.given = max(self.given, certain)
        return new

    def _doubtful(self) -> int:
        """Return the length of the longest end of the text that is the beginning of a stop text."""
        return max(
            (
                length
                for stop in self.stop
                for length in range(1, min(len(stop), len(self.text) + 1))
                if self.text.endswith(stop[:length])
            ),
            default=0,
        )
