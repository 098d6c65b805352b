"""Tokens decoded one by one give what the library gives of all of them at once, whatever they are."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from serve.generation.detokenizer import IncrementalDetokenizer
from serve.generation.token_decoder import BYTES, ByteLevelDecoder, SeparateDecoder, WholeDecoder, decoder_factory

HEX = [f"<0x{byte:02X}>" for byte in range(256)]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
PIECES = [
    "▁",
    "▁▁",
    "▁the",
    "▁a",
    "end",
    "x▁y",
    "r",
    "é",
    "漢",
    "😀",
    "\ufffd",
    " ",
    "  ",
    "\n",
    "<0x0",
    "<0xZZ>",
    "<0x+A>",
]
WORDS = [
    "the",
    "##s",
    "##",
    "#",
    "do",
    "not",
    "do not",
    "n't",
    "'s",
    "'",
    ".",
    "##.",
    ",",
    "?",
    "漢",
    "##字",
    "\ufffd",
    " ",
]
REPLACE, FALLBACK, FUSE = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def with_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("<tool>", special=False), AddedToken("two words é", special=False)])
    return tokenizer


def byte_level() -> Tokenizer:
    merged = ["Ġthe", "âĤ", "¬a", "ï¿½", "ðŁĺ", "Ģ", "ÃĊ", "à"]
    made = Tokenizer(models.BPE(numbered([*ALPHABET, *(token for token in merged if token not in ALPHABET)]), []))
    made.decoder = decoders.ByteLevel()
    return with_added(made)


def falling_back(*steps: object) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        made = Tokenizer(models.BPE(numbered(["<unk>", *HEX, *PIECES]), [], byte_fallback=True))
        made.decoder = decoders.Sequence(list(steps))
        return with_added(made)

    return make


def word_piece(*, cleanup: bool) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        made = Tokenizer(models.WordPiece(numbered(["[UNK]", *WORDS]), unk_token="[UNK]"))
        made.decoder = decoders.WordPiece(cleanup=cleanup)
        return with_added(made)

    return make


def unigram(decoder: object) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        made = Tokenizer(models.Unigram([(token, -1.0) for token in ["<unk>", *HEX, *PIECES]], unk_id=0))
        made.decoder = decoder
        return with_added(made)

    return make


def undecoded() -> Tokenizer:
    return with_added(Tokenizer(models.WordLevel(numbered(WORDS), unk_token="the")))


def sole_bytes() -> Tokenizer:
    made = Tokenizer(models.BPE(numbered(HEX), [], byte_fallback=True))
    made.decoder = decoders.Sequence([FALLBACK, FUSE])
    return made


def closing() -> Tokenizer:
    made = Tokenizer(models.BPE(numbered(["the</w>", "th", "e</w>", "</w>", "a"]), []))
    made.decoder = decoders.BPEDecoder()
    return with_added(made)


LLAMA = [REPLACE, FALLBACK, FUSE, decoders.Strip(" ", 1, 0)]
TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], type]] = {
    "byte-level": (byte_level, ByteLevelDecoder),
    "byte-level in a sequence": (
        lambda: _with(byte_level(), decoders.Sequence([decoders.ByteLevel()])),
        ByteLevelDecoder,
    ),
    "byte fallback": (falling_back(FALLBACK, FUSE), SeparateDecoder),
    "byte fallback alone": (falling_back(FALLBACK), SeparateDecoder),
    "Llama 2": (falling_back(*LLAMA), SeparateDecoder),
    "Gemma": (falling_back(REPLACE, FALLBACK, FUSE), SeparateDecoder),
    "two spaces stripped": (falling_back(*LLAMA[:3], decoders.Strip(" ", 2, 0)), SeparateDecoder),
    "sequences in a sequence": (
        falling_back(decoders.Sequence(LLAMA[:2]), decoders.Sequence(LLAMA[2:])),
        SeparateDecoder,
    ),
    "each token stripped": (falling_back(REPLACE, decoders.Strip(" ", 1, 0), FALLBACK), SeparateDecoder),
    "WordPiece": (word_piece(cleanup=True), SeparateDecoder),
    "WordPiece as it is": (word_piece(cleanup=False), SeparateDecoder),
    "Unigram": (unigram(decoders.Metaspace()), SeparateDecoder),
    "Unigram, first": (unigram(decoders.Metaspace(prepend_scheme="first")), SeparateDecoder),
    "Unigram, never": (unigram(decoders.Metaspace(prepend_scheme="never")), SeparateDecoder),
    "Unigram with bytes": (unigram(decoders.Sequence([FALLBACK, decoders.Metaspace()])), SeparateDecoder),
    "no decoder": (undecoded, SeparateDecoder),
    "bytes and nothing else": (sole_bytes, WholeDecoder),
    "end of words": (closing, WholeDecoder),
    "replaced when joined": (falling_back(FALLBACK, FUSE, decoders.Replace("▁a", " b")), WholeDecoder),
}


def _with(tokenizer: Tokenizer, decoder: object) -> Tokenizer:
    tokenizer.decoder = decoder
    return tokenizer


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    make, kind = TOKENIZERS[request.param]
    made = make()
    assert isinstance(decoder_factory(made)(), kind)
    return made


def pieces_of(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    pieces = [stream.push(token) for token in tokens]
    assert len(stream.offsets) == len(tokens)
    assert stream.offsets == sorted(stream.offsets)
    pieces.append(stream.end())
    assert "".join(pieces) == stream.text
    return pieces


@settings(deadline=None, max_examples=3 * settings.default.max_examples)
@given(data=st.data())
def test_the_pieces_are_what_all_tokens_give_at_once(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Tokens beyond the vocabulary are among them: a model may have logits for more."""
    tokens = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 2), max_size=12))
    assert "".join(pieces_of(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=True)


@settings(deadline=None, max_examples=3 * settings.default.max_examples)
@given(data=st.data())
def test_what_was_given_is_not_taken_back_whatever_follows(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Every piece stays a beginning of the text under any continuation, not under the one that came alone."""
    tokens = st.integers(0, tokenizer.get_vocab_size() - 1)
    begun, rest = data.draw(st.lists(tokens, max_size=6)), data.draw(st.lists(tokens, max_size=4))
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    given = "".join(stream.push(token) for token in begun)
    assert tokenizer.decode([*begun, *rest], skip_special_tokens=True).startswith(given)


@settings(deadline=None, max_examples=3 * settings.default.max_examples)
@given(data=st.data())
def test_special_tokens_have_their_text_where_it_is_asked_for(tokenizer: Tokenizer, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=8))
    stream = IncrementalDetokenizer(decoder_factory(tokenizer, skip_special_tokens=False)())
    text = "".join([*map(stream.push, tokens), stream.end()])
    assert text == tokenizer.decode(tokens, skip_special_tokens=False)


@settings(deadline=None)
@given(data=st.data())
def test_bytes_in_any_order_are_characters_or_replacements(data: st.DataObject) -> None:
    """Half of them are of characters, so that some are whole, cut short, or run on."""
    tokenizer = byte_level()
    runs = st.one_of(st.binary(max_size=3), st.text(st.sampled_from("é€漢😀\ufffd"), max_size=2).map(str.encode))
    content = b"".join(data.draw(st.lists(runs, max_size=6)))
    names = {byte: character for character, byte in BYTES.items()}
    tokens = [tokenizer.token_to_id(names[byte]) for byte in content]
    assert "".join(pieces_of(tokenizer, tokens)) == content.decode("utf-8", "replace") == tokenizer.decode(tokens)


@pytest.mark.parametrize("name", ["byte fallback", "Llama 2"])
def test_a_byte_that_is_part_of_nothing_loses_no_text(name: str) -> None:
    """The library's own stream fails here."""
    tokenizer = TOKENIZERS[name][0]()
    tokens = [tokenizer.token_to_id(token) for token in ("<0x0A>", "<0xEC>", "r")]
    with pytest.raises(Exception, match="Invalid prefix"):
        stream = DecodeStream(skip_special_tokens=True)
        for token in tokens:
            stream.step(tokenizer, token)
    assert pieces_of(tokenizer, tokens) == ["", "", "\ufffd\ufffdr", ""]


def test_an_end_that_is_stripped_is_known_at_the_end() -> None:
    """A case by itself, since the library panics where there is nothing to strip."""
    tokenizer = falling_back(*LLAMA[:3], decoders.Strip(" ", 0, 1))()
    tokens = [tokenizer.token_to_id(token) for token in ("▁the", "▁", "▁")]
    assert pieces_of(tokenizer, tokens) == ["", "", "", " the "] and tokenizer.decode(tokens) == " the "


def test_byte_tokens_are_given_with_the_next_token_and_have_their_place() -> None:
    tokenizer = TOKENIZERS["Llama 2"][0]()
    tokens = [tokenizer.token_to_id(token) for token in ("▁the", "<0xE2>", "<0x82>", "<0xAC>", "r", "<0x0A>")]
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    assert [stream.push(token) for token in tokens] == ["the", "", "", "", "€r", ""]
    assert stream.offsets == [0, 3, 3, 3, 4, 5]
    assert stream.end() == "\n"


def test_a_stop_text_in_byte_tokens_ends_it_before_the_token_that_shows_them() -> None:
    tokenizer = TOKENIZERS["Llama 2"][0]()
    tokens = [tokenizer.token_to_id(token) for token in ("▁the", "<0x0A>", "r")]
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)(), ["\n"])
    assert [stream.push(token) for token in tokens] == ["the", "", ""]
    assert stream.stopped and stream.text == "the" and stream.end() == ""
    assert [offset < len(stream.text) for offset in stream.offsets] == [True, False, False]


def test_a_replacement_that_is_in_the_text_is_given_at_once() -> None:
    tokenizer = TOKENIZERS["byte-level"][0]()
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    assert stream.push(tokenizer.token_to_id("ï¿½")) == "\ufffd"
    assert stream.push(tokenizer.token_to_id("âĤ")) == ""
    assert stream.push(tokenizer.token_to_id("Ġthe")) == "\ufffd the"


class Counting:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.count = tokenizer, 0

    def decode(self, tokens: list[int], *, skip_special_tokens: bool = True) -> str:
        self.count += len(tokens)
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    def __getattr__(self, name: str) -> object:
        return getattr(self.tokenizer, name)


@given(data=st.data())
def test_a_token_costs_no_more_late_in_a_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Whatever repeats, with a text or without one."""
    counting = Counting(tokenizer)
    decoder = decoder_factory(counting)()  # type: ignore[arg-type]
    repeated = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), min_size=1, max_size=3))
    counting.count = 0
    for _ in range(100):
        for token in repeated:
            decoder.push(token)
    decoder.end()
    assert counting.count <= 4 * 100 * len(repeated)
