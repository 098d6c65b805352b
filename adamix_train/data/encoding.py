"""Encode examples as unpadded model inputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from adamix_train.data.examples import Example
from adamix_train.errors import DataError

IGNORED = -100
"""Label of a position that the loss ignores."""
Inputs = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Settings by which examples are encoded, and a record of those that were truncated."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    """Longest input in tokens, special tokens included."""
    labels: list[str] = field(default_factory=list)
    """Label names in the order of the logits."""
    prompt: str = "{input}"
    strict: bool = False
    """Raise an error for an example that is too long, instead of truncating it."""
    truncated: list[int] = field(default_factory=list)
    """Original lengths of truncated examples, in tokens."""

    def fit(self, length: int, example: Example) -> None:
        """Record an example that will be truncated; raise DataError instead if the encoding is strict."""
        if length <= self.max_length:
            return
        if self.strict:
            raise DataError(
                f"an example has {length} tokens and max_length is {self.max_length}: {example.texts[0][:40]!r}… "
                "(raise --max-length, shorten it, or leave out --strict to truncate)"
            )
        self.truncated.append(length)

    def source(self, example: Example) -> str:
        """Return the prompt of an example: the text before the target."""
        return self.prompt.replace("{input}", self.input(example))

    def input(self, example: Example) -> str:
        """Return the input of an example, which the prompt is made of."""
        return " | ".join(example.texts)


def encode_labels(examples: Sequence[Example], encoding: Encoding) -> list[Inputs]:
    """Return inputs whose `labels` is the label's index."""
    pairs = zip(examples, _encode_texts(examples, encoding), strict=True)
    return [{**inputs, "labels": encoding.labels.index(example.target)} for example, inputs in pairs]


def encode_scores(examples: Sequence[Example], encoding: Encoding) -> list[Inputs]:
    """Return inputs whose `labels` is the score."""
    pairs = zip(examples, _encode_texts(examples, encoding), strict=True)
    return [{**inputs, "labels": float(example.target)} for example, inputs in pairs]


def encode_causal(examples: Sequence[Example], encoding: Encoding) -> list[Inputs]:
    """Return prompt, target and end token as one sequence; `labels` ignores the prompt.

    A sequence that is too long loses the beginning of its prompt first, then the end of its target.
    """
    return list(_causal(examples, encoding))


def _causal(examples: Sequence[Example], encoding: Encoding) -> Iterator[Inputs]:
    tokenizer = encoding.tokenizer
    for example in examples:
        prompt = tokenizer(encoding.source(example))["input_ids"]
        target = tokenizer(" " + example.target, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        encoding.fit(len(prompt) + len(target), example)
        target = target[: encoding.max_length - 1]
        prompt = shortened_prompt(prompt, encoding.max_length - len(target))
        ids = prompt + target
        yield {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * len(prompt) + target}


def encode_seq2seq(examples: Sequence[Example], encoding: Encoding) -> list[Inputs]:
    """Return the prompt as the encoder's input and the target as `labels`."""
    found = []
    for example in examples:
        source = encoding.tokenizer(encoding.source(example))["input_ids"]
        target = encoding.tokenizer(text_target=example.target)["input_ids"]
        encoding.fit(max(len(source), len(target)), example)
        limit = encoding.max_length
        source, target = shortened_source(source, limit), shortened_source(target, limit)
        found.append({"input_ids": source, "attention_mask": [1] * len(source), "labels": target})
    return found


def shortened_prompt(ids: list[int], limit: int) -> list[int]:
    """Return the last `limit` tokens of a decoder's prompt, whose end precedes the target."""
    return ids[max(0, len(ids) - limit) :]


def shortened_source(ids: list[int], limit: int) -> list[int]:
    """Return the first `limit` - 1 tokens and the end token of an encoder's input."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def check_ends(rows: Sequence[Inputs], examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError for a text with end-of-sequence tokens of its own.

    T5's classifier reads the last one, and takes batches of texts with equally many.

    Args:
        rows: inputs of `examples`.
        examples: texts or pairs.
        tokenizer: the tokenizer, which ends every text with such a token.
    """
    end = tokenizer.eos_token_id
    ends = {count: tokenizer(*["a"] * count)["input_ids"].count(end) for count in {len(one.texts) for one in examples}}
    for row, example in zip(rows, examples, strict=True):
        expected, found = ends[len(example.texts)], row["input_ids"].count(end)
        if not expected or found != expected:
            raise DataError(
                f"{example.texts[0][:40]!r} has {found} end-of-sequence tokens "
                f"({tokenizer.eos_token}), and T5's classifier needs {expected or 1}: "
                + ("leave them out of the text" if expected else "use a tokenizer that ends every text with one")
            )


def _encode_texts(examples: Sequence[Example], encoding: Encoding) -> list[Inputs]:
    if not examples:
        return []
    columns = list(zip(*(example.texts for example in examples), strict=True))
    whole = encoding.tokenizer(*map(list, columns), truncation=False)
    for example, ids in zip(examples, whole["input_ids"], strict=True):
        if not ids:
            raise DataError(f"the tokenizer finds no tokens in {example.texts[0][:40]!r}: leave the example out")
        encoding.fit(len(ids), example)
    cut = encoding.tokenizer(*map(list, columns), truncation=True, max_length=encoding.max_length)
    return [{name: values[index] for name, values in cut.items()} for index in range(len(examples))]
