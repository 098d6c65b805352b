"""Pieces of text: whole characters, and nothing that a stop text takes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from serve.generation.detokenizer import IncrementalDetokenizer, TokenTexts
from serve.generation.token_decoder import decoder_factory


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, and a few merges of them."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["the end of the text", "a stop and an end"], trainer)
    return made


@given(text=st.text(st.sampled_from("the nd öß€漢字😀👩‍👩‍👧\n"), max_size=30))
def test_the_pieces_are_the_text(text: str, tokenizer: Tokenizer) -> None:
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    pieces = [stream.push(token) for token in tokenizer.encode(text).ids]
    assert all("\ufffd" not in piece for piece in pieces), "no half of a character"
    assert "".join([*pieces, stream.end()]) == text == stream.text


@given(
    text=st.text(st.sampled_from("ab €"), max_size=25),
    stop=st.lists(st.text(st.sampled_from("ab €"), min_size=1, max_size=4), max_size=3),
)
def test_a_stop_text_ends_it_wherever_tokens_border(text: str, stop: list[str], tokenizer: Tokenizer) -> None:
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)(), stop)
    pieces = []
    for token in tokenizer.encode(text).ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.end())
    found = "".join(pieces)
    assert found == stream.text
    assert text.startswith(found)
    assert not any(one in found for one in stop)
    assert stream.stopped == any(one in text for one in stop)
    if not stream.stopped:
        assert found == text


def test_bytes_that_are_no_character_come_last_as_a_replacement(tokenizer: Tokenizer) -> None:
    stream = IncrementalDetokenizer(decoder_factory(tokenizer)())
    euro = tokenizer.encode("€").ids
    assert [stream.push(token) for token in euro[:2]] == ["", ""]
    assert "\ufffd" in stream.end()


def test_a_part_of_a_character_is_told_by_its_bytes(tokenizer: Tokenizer) -> None:
    """As OpenAI's completions have it: what is no character is escaped behind a mark."""
    texts, ids = TokenTexts(tokenizer), tokenizer.encode("a é\ufffd").ids
    found = [texts.both(token) for token in ids]
    space = [(" ", b" ")] if tokenizer.token_to_id("\u0120") in ids else []
    parts = [(f"bytes:\\x{byte:02x}", bytes([byte])) for byte in "é\ufffd".encode()]
    assert found == [("a", b"a"), *space, *parts]
    assert b"".join(content for _, content in found).decode() == "a é\ufffd"


def test_byte_tokens_of_sentencepiece_are_told_in_the_same_way() -> None:
    names = ["<unk>", "a", "\u2581b", "<0x0A>", "<0xC3>", "<0xZZ>"]
    made = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, [], byte_fallback=True))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence(steps)
    found = [TokenTexts(made).both(token) for token in range(1, len(names))]
    assert found == [
        ("a", b"a"),
        (" b", b" b"),
        ("\n", b"\n"),
        ("bytes:\\xc3", b"\xc3"),
        ("<0xZZ>", b"<0xZZ>"),
    ]
