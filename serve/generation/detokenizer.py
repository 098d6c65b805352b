"""A text as it is written: whole characters only, and nothing that a stop text may still take back."""

from collections.abc import Sequence

from serve.generation.token_decoder import TokenDecoder


class TextStream:
    """Turns tokens into text, piece by piece; the pieces together are the text."""

    def __init__(self, decoder: TokenDecoder, stop: Sequence[str] = ()) -> None:
        """Begin a text with a decoder of its own."""
        self.decoder, self.stop = decoder, list(stop)
        self.offsets: list[int] = []
        """Of each token in the text: how many characters were certain before it."""
        self.text = ""
        """What was written, without a stop text."""
        self.given = 0
        """Characters of it that were returned."""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now and was not before."""
        decoded = self.decoder.push(token)
        before = self._add(decoded.before, end=False)
        self.offsets.append(len(self.text))
        return before + self._add(decoded.own, end=False)

    def end(self) -> str:
        """Return the rest: what was held back for a stop text, and bytes that are no character, as replacements."""
        return self._add("" if self.stopped else self.decoder.end(), end=True)

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
