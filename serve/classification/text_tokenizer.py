"""Turn texts and pairs into token ids, exactly as in training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding

from serve.bundle.adapter import Adapter
from serve.bundle.tokenizer import read_tokenizer
from serve.errors import InputError
from serve.requests import Text
from serve.runtime.tokenization import check_vocabulary, encode

OVERLAP_DIVISOR = 4
"""Windows over a long text share one in this many of a window's tokens, unless a request says otherwise."""


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text (or pair) of a batch and the adapter that classifies it."""

    input_ids: list[int]
    """(tokens,), special tokens included."""
    token_type_ids: list[int]
    """(tokens,): 0 for the first text, 1 for the second."""
    adapter: Adapter

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Overlapping windows over a text of any length; each is built when it is iterated over."""

    whole: EncodedText
    """All tokens of the text, between special tokens that every window repeats."""
    text: range
    """Positions of the text's own tokens in `whole`."""
    window_tokens: int
    """Tokens of the text in a window."""
    overlap: int
    """Tokens that neighbouring windows share."""

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[EncodedText]:
        for start in self._starts:
            part = self.text[start : start + self.window_tokens]
            yield _select(self.whole, [range(self.text.start), part, range(self.text.stop, len(self.whole))])

    @property
    def _starts(self) -> range:
        return range(0, max(1, len(self.text) - self.overlap), self.window_tokens - self.overlap)


class TextTokenizer:
    """The tokenizer of a bundle.

    It truncates by itself rather than through `tokenizers`, which would build an encoding of every part that it cuts
    off.
    """

    def __init__(self, file: Path, vocab_size: int | None = None) -> None:
        """Read a `tokenizer.json`; tokens from `vocab_size` on have no embedding and are refused."""
        self.vocab_size = vocab_size
        self.tokenizer = read_tokenizer(file)
        self.truncate_left = (self.tokenizer.truncation or {}).get("direction") == "left"
        """A text that is too long loses its beginning; the file says so where training did it."""
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, text: Text, adapter: Adapter, *, truncate: bool) -> EncodedText:
        """Return the tokens of a text or pair.

        A pair that is too long loses tokens of its longer text first, as in training.

        Raises:
            InputError: The text is empty, not valid Unicode, has no tokens or one that the base does not have or,
                without `truncate`, is longer than the adapter's maximum.
        """
        longest = adapter.card.max_length
        encoding = self._encoding(*parts(text))
        encoded = EncodedText(encoding.ids, encoding.type_ids, adapter)
        if len(encoded) > longest:
            if not truncate:
                raise InputError(
                    f"the text has more than {longest} tokens: shorten it, or set truncate or windows to true"
                )
            encoded = _truncated(encoded, _spans(encoding), longest, left=self.truncate_left)
        check_vocabulary(encoded.input_ids, self.tokenizer, self.vocab_size)
        return encoded

    def windows(self, text: str, adapter: Adapter, *, overlap: int | None = None) -> Windows:
        """Return windows that cover a text of any length.

        Args:
            text: The text.
            adapter: The adapter, whose maximum length is that of a window.
            overlap: Tokens that neighbouring windows share; None takes a quarter of the maximum length.

        Raises:
            InputError: The text is empty, has a token that the base does not have, or `overlap` leaves no new tokens
                for a window.
        """
        longest = adapter.card.max_length
        overlap = longest // OVERLAP_DIVISOR if overlap is None else overlap
        special = self.tokenizer.num_special_tokens_to_add(False)
        if not 0 <= overlap < longest - special:
            raise InputError(
                f"windows cannot overlap by {overlap} tokens: adapter {adapter.card.name} takes {longest}, "
                f"{special} of which are special"
            )
        encoding = self._encoding(text)
        whole = EncodedText(encoding.ids, encoding.type_ids, adapter)
        check_vocabulary(whole.input_ids, self.tokenizer, self.vocab_size)
        return Windows(whole=whole, text=_spans(encoding)[0], window_tokens=longest - special, overlap=overlap)

    def _encoding(self, *texts: str) -> Encoding:
        """Return the encoding of a text or pair, however long; raise an InputError if it has no tokens."""
        encoding = encode(self.tokenizer, *texts)
        if not encoding.ids:
            raise InputError("the tokenizer finds no tokens in the text")
        return encoding


def parts(text: Text) -> tuple[str, ...]:
    """Return the one or two texts of an input."""
    return (text,) if isinstance(text, str) else text


def _spans(encoding: Encoding) -> list[range]:
    """Return the positions of each text's tokens, between the special tokens."""
    numbers, spans, end = encoding.sequence_ids, [], 0
    for number in range(encoding.n_sequences):
        count = numbers.count(number)
        start = numbers.index(number) if count else end
        spans.append(range(start, end := start + count))
    return spans


def _truncated(encoded: EncodedText, spans: Sequence[range], longest: int, *, left: bool) -> EncodedText:
    """Return the input cut to `longest` tokens; the texts at `spans` lose their ends or, with `left`, their beginnings.

    Special tokens stay.
    """
    kept = _kept_lengths([len(span) for span in spans], longest - len(encoded) + sum(map(len, spans)))
    positions, end = [], 0
    for span, count in zip(spans, kept, strict=True):
        positions += [range(end, span.start), span[len(span) - count :] if left else span[:count]]
        end = span.stop
    return _select(encoded, [*positions, range(end, len(encoded))])


def _kept_lengths(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how many tokens each of one or two texts keeps: of two, the shorter keeps at least half of the budget."""
    if len(lengths) == 1:
        return [budget]
    short = min(*lengths, budget // 2)
    return [short, budget - short] if lengths[0] <= lengths[1] else [budget - short, short]


def _select(encoded: EncodedText, positions: Sequence[range]) -> EncodedText:
    """Return the tokens at some positions."""
    ids, types = (
        [value for span in positions for value in values[span.start : span.stop]]
        for values in (encoded.input_ids, encoded.token_type_ids)
    )
    return EncodedText(ids, types, encoded.adapter)
