"""Probe texts for a bundle's tokenizer: too long, nearly blank, with special tokens, in other scripts."""

from collections.abc import Sequence

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.errors import ParityError

SENTENCES = (
    "Everything arrived on time and works as it should, thank you.",
    "It broke on the second day and NOBODY answers my letters!",
    "Where can I change the address on my invoice? I don't see it.",
)
SHORTEST = 8
"""Fewest tokens that a sentence has in any tokenizer."""
OTHERS = ("\n  . \t", " Ünïcödé naïveté, 中文 и кириллица 🙂 ")
ADDED = 16
"""Added tokens to try, special ones first."""


def probe_texts(checkpoint: Checkpoint) -> list[str]:
    """Return the texts; the first has more tokens than the checkpoint's maximum, and no two equal parts."""
    count = checkpoint.card.max_length // SHORTEST + 2
    lines = [f"{index}: {SENTENCES[index % len(SENTENCES)]}" for index in range(count)]
    tokenizer = checkpoint.tokenizer
    added = list(dict.fromkeys([*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]))[:ADDED]
    return [" ".join(lines), *OTHERS, " ".join(["good", *added, "day"])]


def probe_rows(checkpoint: Checkpoint) -> list[tuple[str, ...]]:
    """Return the texts as inputs: single texts, or pairs of each with the next and of the longest with itself.

    A text in which the tokenizer finds no tokens, which serving refuses, is left out.
    """
    texts = probe_texts(checkpoint)
    if not checkpoint.pairs:
        return [(text,) for text in texts if checkpoint.tokenizer(text)["input_ids"]]
    return [*zip(texts, [*texts[1:], texts[0]], strict=True), (texts[0], texts[0])]


def require_equal(name: str, texts: Sequence[str], found: Sequence[int], expected: Sequence[int]) -> None:
    """Raise a `ParityError` if a bundle gives a text or pair other token ids (or token types) than training did."""
    if list(found) == list(expected):
        return
    index = next(
        (at for at, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other),
        min(len(found), len(expected)),
    )
    shown = " | ".join(text if len(text) <= 60 else f"{text[:40]}… {text[-20:]}" for text in texts)
    raise ParityError(
        f"{name}: the bundle tokenizes {shown!r} differently from training: {len(found)} tokens, {len(expected)} "
        f"expected, and the first difference is at position {index}"
    )
