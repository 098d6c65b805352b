"""Tokenize texts of clients: bounded in characters, and without holding up other threads."""

import asyncio
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tokenizers import Encoding, Tokenizer

from serve.errors import InputError

LONG_TEXT = 4_000
"""Characters above which a text is tokenized outside the event loop and without Python's global lock; these many take a
millisecond or two, in which nothing else is answered."""
CHARACTERS_PER_TOKEN = 4
"""Characters of English in a token; turning a token into text takes about as long as tokenizing so many."""
MAX_CHARACTERS_PER_TOKEN = 16
"""More than tokenizers use for a token: English has four or five, code and most scripts have fewer."""
MIN_CHARACTER_LIMIT = 262_144
"""Characters of a text that a server tokenizes however little of it the model reads; about 150 pages."""
THREADS = 2
"""Threads of an engine that tokenize long texts; more of them would take cores from the model."""
INVISIBLE = frozenset(("Cc", "Cf"))
"""Unicode's categories of control and format characters, such as NUL, the zero-width space and the byte order mark."""
Result = TypeVar("Result")


def is_empty(text: str) -> bool:
    """Return whether a text holds nothing but white space, control and format characters."""
    return not any(map(_is_visible, text[:64])) and not any(map(_is_visible, set(text)))


def _is_visible(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character) not in INVISIBLE


def encode(tokenizer: Tokenizer, text: str, second: str | None = None, *, add_special_tokens: bool = True) -> Encoding:
    """Tokenize a text or pair, special tokens included.

    A long text is tokenized without Python's global lock, so that other threads go on.

    Raises:
        InputError: A text is empty, as `is_empty` says, or has a lone surrogate.
    """
    if is_empty(text) or (second is not None and is_empty(second)):
        raise InputError("the text is empty", "prompts")
    return tokenize(tokenizer, text, second, add_special_tokens=add_special_tokens)


def tokenize(
    tokenizer: Tokenizer,
    text: str,
    second: str | None = None,
    *,
    add_special_tokens: bool = True,
    offsets: bool = False,
) -> Encoding:
    """Tokenize a text or pair that may be empty; `offsets` are those of long texts too, which takes longer.

    Raises:
        InputError: A text has a lone surrogate.
    """
    try:
        if len(text) + len(second or "") <= LONG_TEXT:
            return tokenizer.encode(text, second, add_special_tokens=add_special_tokens)
        # Unlike `encode`, the batch methods release the lock.
        texts = [text if second is None else (text, second)]
        batch = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
        return batch(texts, add_special_tokens=add_special_tokens)[0]
    except (TypeError, UnicodeEncodeError) as error:
        raise InputError("the text is not valid Unicode: it holds a lone surrogate", "prompts") from error


def decode(tokenizer: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
    """Return the text of tokens; other threads go on while it is that of many."""
    if len(ids) * CHARACTERS_PER_TOKEN <= LONG_TEXT:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
    else:  # unlike `decode`, the batch method releases the lock
        text = tokenizer.decode_batch([list(ids)], skip_special_tokens=skip_special_tokens)[0]
    return text


def check_ids(count: int, max_tokens: int) -> None:
    """Raise an InputError if a prompt of so many token ids is far longer than the `max_tokens` that are read."""
    limit = max(MIN_CHARACTER_LIMIT, max_tokens * MAX_CHARACTERS_PER_TOKEN) // CHARACTERS_PER_TOKEN
    if count > limit:
        raise InputError(f"the prompt has {count} tokens: at most {limit} are taken, shorten it", "prompts")


def check_characters(characters: int, max_tokens: int) -> None:
    """Raise an InputError if a text is far too long for `max_tokens` tokens to be read of it."""
    limit = max(MIN_CHARACTER_LIMIT, max_tokens * MAX_CHARACTERS_PER_TOKEN)
    if characters > limit:
        raise InputError(f"the text has {characters} characters: at most {limit} are tokenized, shorten it", "prompts")


def check_vocabulary(ids: Sequence[int], tokenizer: Tokenizer, vocab_size: int | None) -> None:
    """Raise an InputError if a token has no embedding, such as one that was added to the tokenizer alone.

    Args:
        ids: Token ids.
        tokenizer: The tokenizer, which names the token in the error.
        vocab_size: Number of tokens that the base model has embeddings for; None checks nothing.
    """
    if vocab_size is not None and (largest := max(ids, default=0)) >= vocab_size:
        raise InputError(
            f"the text has the token {tokenizer.id_to_token(largest)!r}, number {largest}, and the base has embeddings "
            f"for {vocab_size}: leave it out",
            "prompts",
        )


class TokenizerThreads:
    """Runs tokenization of long texts in threads of its own, and of short ones at once."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(THREADS, "adamix-tokens")

    async def run(self, tokenize: Callable[[], Result], characters: int) -> Result:
        """Return the result of `tokenize`, which reads so many characters."""
        if characters <= LONG_TEXT:
            return tokenize()
        return await asyncio.get_running_loop().run_in_executor(self.executor, tokenize)
