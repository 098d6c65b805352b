"""Turn texts into rows of token ids, exactly as in training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from serve.bundle.adapter import Adapter
from serve.errors import InputError

Text = str | tuple[str, str]
"""One text, or a pair."""
OVERLAP = 4
"""Windows over a long text share one part in this many."""
LONG_TEXT = 20_000
"""Characters above which tokenizing would hold others up: it leaves the event loop, and gives Python's lock back."""
CHARACTERS_A_TOKEN = 16
"""More than tokenizers make one token of: of English they take four or five, of code and of most scripts fewer."""
LEAST_CHARACTERS = 262_144
"""Of a text that a server tokenizes however little of it is read: a book of 150 pages, in a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text (or pair) of a batch and the adapter that answers it."""

    input_ids: list[int]
    token_type_ids: list[int]
    adapter: Adapter

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Rows that cover a text of any length: counted at once, and each made when it is asked for."""

    whole: Row
    """The text's tokens between special ones, which every window has as well."""
    text: range
    """Where in it the tokens of the text are."""
    room: int
    """Tokens of the text that a window has."""
    overlap: int
    """Tokens that it shares with the one before."""

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Row]:
        for start in self._starts:
            part = self.text[start : start + self.room]
            yield _kept(self.whole, [range(self.text.start), part, range(self.text.stop, len(self.whole))])

    @property
    def _starts(self) -> range:
        return range(0, max(1, len(self.text) - self.overlap), self.room - self.overlap)


class Texts:
    """The tokenizer of a file. It never truncates by itself: that would make an encoding of every part it cuts off."""

    def __init__(self, file: Path, vocabulary: int | None = None) -> None:
        """Read a file; `vocabulary` is how many tokens the base has embeddings for, if that is known."""
        self.vocabulary = vocabulary
        self.tokenizer = Tokenizer.from_file(str(file))
        self.tokenizer.no_padding()
        self.left = (self.tokenizer.truncation or {}).get("direction") == "left"
        """Whether a text that is too long loses its beginning, which the file says where it is so."""
        self.tokenizer.no_truncation()

    def row(self, text: Text, adapter: Adapter, *, truncate: bool) -> Row:
        """Return the row of `text`, or an error if it is empty or, unless `truncate`, longer than the adapter takes.

        A pair that is too long loses tokens of its longer text first, as in training.
        """
        longest = adapter.card.max_length
        encoding = encode(self.tokenizer, *parts(text))
        row = Row(encoding.ids, encoding.type_ids, adapter)
        if len(row) > longest:
            if not truncate:
                raise InputError(f"the text has more than {longest} tokens: shorten it, or set truncate to true")
            row = _cut(row, _spans(encoding), longest, left=self.left)
        check_known(row.input_ids, self.tokenizer, self.vocabulary)
        return row

    def windows(self, text: str, adapter: Adapter, *, overlap: int | None = None) -> Windows:
        """Return rows that cover a text of any length, each with `overlap` tokens of the one before.

        The overlap is a quarter of what an adapter takes unless another one is given.
        """
        longest = adapter.card.max_length
        overlap = longest // OVERLAP if overlap is None else overlap
        special = self.tokenizer.num_special_tokens_to_add(False)
        if not 0 <= overlap < longest - special:
            raise InputError(
                f"windows cannot overlap by {overlap} tokens: adapter {adapter.card.name} takes {longest}, "
                f"{special} of which are special"
            )
        encoding = encode(self.tokenizer, text)
        whole = Row(encoding.ids, encoding.type_ids, adapter)
        check_known(whole.input_ids, self.tokenizer, self.vocabulary)
        return Windows(whole=whole, text=_spans(encoding)[0], room=longest - special, overlap=overlap)


def encode(tokenizer: Tokenizer, text: str, second: str | None = None) -> Encoding:
    """Tokenize a text or pair, or raise an error if one is empty or no Unicode.

    While a long one is tokenized, other threads go on.
    """
    if not text.strip() or (second is not None and not second.strip()):
        raise InputError("the text is empty")
    try:
        if len(text) + len(second or "") <= LONG_TEXT:
            return tokenizer.encode(text, second)
        # Other than encode, it gives Python's lock back.
        return tokenizer.encode_batch_fast([text if second is None else (text, second)])[0]
    except (TypeError, UnicodeEncodeError) as error:
        raise InputError("the text is not valid Unicode: it holds a lone surrogate") from error


def check_characters(text: Text, tokens: int) -> None:
    """Raise an error if a text has so many more characters than the `tokens` that are read that it is no such text."""
    characters, most = sum(map(len, parts(text))), max(LEAST_CHARACTERS, tokens * CHARACTERS_A_TOKEN)
    if characters > most:
        raise InputError(f"the text has {characters} characters: at most {most} are tokenized, shorten it")


def check_known(ids: Sequence[int], tokenizer: Tokenizer, vocabulary: int | None) -> None:
    """Raise an error if a token has no embedding, as one that was added to the tokenizer alone."""
    if vocabulary is not None and (largest := max(ids, default=0)) >= vocabulary:
        raise InputError(
            f"the text has the token {tokenizer.id_to_token(largest)!r}, number {largest}, and the base has embeddings "
            f"for {vocabulary}: leave it out"
        )


def parts(text: Text) -> tuple[str, ...]:
    """Return the one or two texts of a row."""
    return (text,) if isinstance(text, str) else text


def _spans(encoding: Encoding) -> list[range]:
    """Return where the tokens of each text are, between the special ones."""
    numbers, spans, end = encoding.sequence_ids, [], 0
    for number in range(encoding.n_sequences):
        count = numbers.count(number)
        start = numbers.index(number) if count else end
        spans.append(range(start, end := start + count))
    return spans


def _cut(row: Row, spans: Sequence[range], longest: int, *, left: bool) -> Row:
    """Return a row cut to its longest: each text loses tokens of its end or, with `left`, of its beginning."""
    shares = _shares([len(span) for span in spans], longest - len(row) + sum(map(len, spans)))
    places, end = [], 0
    for span, share in zip(spans, shares, strict=True):
        places += [range(end, span.start), span[len(span) - share :] if left else span[:share]]
        end = span.stop
    return _kept(row, [*places, range(end, len(row))])


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens each of one or two texts keeps: of two, the shorter has at least half of the room."""
    if len(lengths) == 1:
        return [room]
    short = min(*lengths, room // 2)
    return [short, room - short] if lengths[0] <= lengths[1] else [room - short, short]


def _kept(row: Row, places: Sequence[range]) -> Row:
    """Return a row with the tokens in some places alone."""
    ids, types = (
        [value for place in places for value in values[place.start : place.stop]]
        for values in (row.input_ids, row.token_type_ids)
    )
    return Row(ids, types, row.adapter)
