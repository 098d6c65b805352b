import asyncio
import threading
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from serve.errors import InputError
from serve.runtime.tokenization import (
    LONG_TEXT,
    MIN_CHARACTER_LIMIT,
    TokenizerThreads,
    check_characters,
    check_ids,
    check_vocabulary,
    decode,
    encode,
    is_empty,
)
from tests.serve.conftest import WORDS, write_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_tokenizer(tmp_path / "tokenizer.json")
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def some(count: int) -> str:
    """A text of so many tokens, a special one's name among them."""
    return " ".join(WORDS[2 + index * 7 % 9] for index in range(count))


@pytest.mark.parametrize("pair", [False, True])
def test_a_text_is_the_same_tokens_however_long_it_is(tokenizer: Tokenizer, pair: bool) -> None:
    short, second = some(10), some(7) if pair else None
    count = 1 + LONG_TEXT // len(short)
    inner, whole = encode(tokenizer, short).ids[1:-1], encode(tokenizer, short, second).ids
    expected = [1, *inner * count, *whole[1 + len(inner) :]]
    assert encode(tokenizer, " ".join([short] * count), second).ids == expected
    with pytest.raises(InputError, match="lone surrogate"):
        encode(tokenizer, "\ud800" + short * count, second)


EMPTY = [
    "",
    " \n\u3000",
    "\u200b\u200b",
    "\0\0",
    "\ufeff \u2060",
    "\u00ad",
    "\x7f\x9f",
    "\u200e\U000e0041",
    "\u200b" * 9_000,
]


@pytest.mark.parametrize("text", EMPTY)
def test_a_text_without_a_visible_character_is_empty(tokenizer: Tokenizer, text: str) -> None:
    assert is_empty(text)
    for texts in ((text,), ("good", text), (text, "good")):
        with pytest.raises(InputError, match=r"^the text is empty$"):
            encode(tokenizer, *texts)


@pytest.mark.parametrize(
    "text", ["good", "\u200bgood", "\0" * 5_000 + "a", ".", "\U0001f469\u200d\U0001f4bb", "\u0301"]
)
def test_invisible_characters_beside_others_are_text(tokenizer: Tokenizer, text: str) -> None:
    assert not is_empty(text)
    assert encode(tokenizer, text).ids == tokenizer.encode(text).ids


def test_other_threads_go_on_while_a_long_text_is_tokenized(tokenizer: Tokenizer) -> None:
    ticks, done = [0], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    before = ticks[0]
    encode(tokenizer, "good " * 200_000)
    after = ticks[0]
    done.set()
    thread.join()
    assert after - before > 10


def test_a_text_that_no_adapter_could_read_is_refused_by_its_characters() -> None:
    check_characters(MIN_CHARACTER_LIMIT, 8)
    check_characters(2 * MIN_CHARACTER_LIMIT, 64 * 512)
    with pytest.raises(InputError, match="the text has 262145 characters: at most 262144 are tokenized, shorten it"):
        check_characters(MIN_CHARACTER_LIMIT + 1, 8)
    with pytest.raises(InputError, match="the text has 524289 characters: at most 524288 are tokenized"):
        check_characters(2 * MIN_CHARACTER_LIMIT + 1, 64 * 512)


def test_tokens_are_the_same_text_however_many_they_are(tokenizer: Tokenizer) -> None:
    ids = [1, *(4 + index % 7 for index in range(LONG_TEXT)), 2]
    for some_ids in (ids, ids[:100]):
        for skip in (True, False):
            expected = tokenizer.decode(some_ids, skip_special_tokens=skip)
            assert decode(tokenizer, some_ids, skip_special_tokens=skip) == expected


def test_a_prompt_of_ids_that_no_adapter_could_read_is_refused_by_their_number() -> None:
    check_ids(65_536, 8)
    check_ids(400_000, 100_000)
    with pytest.raises(InputError, match="the prompt has 65537 tokens: at most 65536 are taken, shorten it"):
        check_ids(65_537, 8)


def test_a_token_without_an_embedding_is_named(tokenizer: Tokenizer) -> None:
    check_vocabulary([1, 9, 2], tokenizer, 10)
    check_vocabulary([1, 10, 2], tokenizer, None)
    check_vocabulary([], tokenizer, 10)
    with pytest.raises(InputError, match="the token 'very', number 10, and the base has embeddings for 10: leave it"):
        check_vocabulary([1, 10, 2], tokenizer, 10)


@pytest.mark.parametrize(("characters", "own_thread"), [(LONG_TEXT, False), (LONG_TEXT + 1, True)])
def test_long_texts_alone_are_tokenized_in_a_thread_of_their_own(characters: int, own_thread: bool) -> None:
    name = asyncio.run(TokenizerThreads().run(lambda: threading.current_thread().name, characters))
    assert name.startswith("adamix-tokens") == own_thread
