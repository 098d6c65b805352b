"""Comparison of a generative bundle with PyTorch: greedy tokens, their logits, and the perplexity of targets.

PyTorch is given the tokens that the bundle generated. If each is the most likely one after those before it, then
PyTorch generates the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.parity.bounds import Check
from adamix_export.parity.examples import parity_examples
from adamix_export.parity.probes import probe_texts, require_equal
from adamix_export.parity.report import PERPLEXITY, Parity
from adamix_export.tasks.reference_logits import ModelLayout, TokenLists
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import task_of
from adamix_train.evaluation.generate import make_prompts
from adamix_train.recipe.recipe import Recipe
from serve.bundle.reader import Bundle
from serve.errors import InputError
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt

BATCH_SIZE = 8
"""Prompts compared in one batch; the logits of all tokens over the vocabulary are large."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a comparison."""

    layout: ModelLayout
    checkpoint: Checkpoint
    generator: Generator


def compare(layout: ModelLayout, checkpoints: Sequence[Checkpoint], bundle: Bundle, check: Check) -> dict[str, Parity]:
    """Return a report for every checkpoint."""
    generator = Generator(bundle, provider="cpu")
    return {
        checkpoint.name: _report(Sides(layout=layout, checkpoint=checkpoint, generator=generator), check)
        for checkpoint in checkpoints
    }


def _report(sides: Sides, check: Check) -> Parity:
    checkpoint, generator = sides.checkpoint, sides.generator
    recipe = Recipe(**checkpoint.card.recipe)
    examples, origin = parity_examples(checkpoint, replace(check, limit=None))
    encoding = Encoding(
        tokenizer=checkpoint.tokenizer, max_length=checkpoint.card.max_length, prompt=task_of(recipe).prompt
    )
    data = make_prompts(examples, encoding, encoder_decoder=sides.layout.encoder_decoder)[: check.limit]
    inputs = [encoding.input(example) for example in examples[: check.limit]]
    _require_equal_prompts(sides, encoding, [*inputs, *probe_texts(checkpoint)])
    adapter = generator.registry.find(checkpoint.name)
    prompts = [Prompt(ids, adapter) for ids in (*(one.ids for one in data), *adapter.card.canary_ids)]
    differences, equal, spreads = _differences(sides, prompts, recipe.max_new_tokens)
    targets = [sides.layout.target(checkpoint.tokenizer, one.references[0])[: recipe.max_new_tokens] for one in data]
    losses = _mean_losses(sides, prompts[: len(data)], targets) if data else None
    return Parity(
        rows=len(prompts),
        data=origin,
        max_difference=max(differences),
        equal_labels=sum(equal) / len(equal),
        metric=PERPLEXITY,
        pytorch=float(np.exp(losses[0])) if losses else None,
        onnx=float(np.exp(losses[1])) if losses else None,
        provider=generator.provider,
        bounds=check.bounds,
        spread=max(spreads),
    )


def _require_equal_prompts(sides: Sides, encoding: Encoding, texts: Sequence[str]) -> None:
    """Raise a `ParityError` if the bundle makes another prompt of an input than training did."""
    checkpoint = sides.checkpoint
    for text in texts:
        expected = checkpoint.tokenizer(encoding.prompt.replace("{input}", text))["input_ids"]
        try:
            (found,) = sides.generator.prompts([text], [checkpoint.name])
        except InputError:  # training accepts texts that serving refuses, such as an empty one
            continue
        expected = sides.layout.shorten(expected, encoding.max_length)
        require_equal(checkpoint.name, [text], found.input_ids, expected)


def _differences(
    sides: Sides, prompts: Sequence[Prompt], max_new_tokens: int
) -> tuple[list[float], list[bool], list[float]]:
    """Return, for each prompt, the largest difference of a logit, whether PyTorch generates its tokens, and the spread.

    The spread is the standard deviation of PyTorch's logits.
    """
    differences, equal, spreads = [], [], []
    ends = set(sides.generator.cards[sides.checkpoint.name].eos_token_ids)
    for batch in _batches(sorted(prompts, key=lambda prompt: len(prompt.input_ids))):
        tokens, found = sides.generator.greedy_logits(batch, max_new_tokens=max_new_tokens)
        expected = sides.layout.logits(sides.checkpoint, [prompt.input_ids for prompt in batch], tokens)
        for row, ours, theirs in zip(tokens, found, expected, strict=True):
            differences.append(float(np.abs(ours - theirs).max()) if np.isfinite(ours).all() else float("inf"))
            spreads.append(float(theirs.std()))
            chosen = theirs.argmax(-1).tolist()
            equal.append(all(one == other or {one, other} <= ends for one, other in zip(chosen, row, strict=True)))
    return differences, equal, spreads


def _mean_losses(sides: Sides, prompts: Sequence[Prompt], targets: TokenLists) -> tuple[float, float]:
    """Return the mean cross-entropy of the tokens of `targets` in PyTorch and in ONNX Runtime."""
    sums = np.zeros(2)
    pairs = sorted(zip(prompts, targets, strict=True), key=lambda pair: len(pair[0].input_ids) + len(pair[1]))
    for batch in _batches(pairs):
        asked, tokens = [prompt for prompt, _ in batch], [list(target) for _, target in batch]
        both = (
            sides.layout.logits(sides.checkpoint, [prompt.input_ids for prompt in asked], tokens),
            sides.generator.forced_logits(asked, tokens),
        )
        for index, logits in enumerate(both):
            sums[index] += sum(_cross_entropy(rows, target) for rows, target in zip(logits, tokens, strict=True))
    count = sum(map(len, targets))
    return sums[0] / count, sums[1] / count


def _cross_entropy(logits: NDArray[np.float32], tokens: Sequence[int]) -> float:
    """Return the summed cross-entropy of tokens (n,) under logits (n, vocabulary)."""
    return float(functional.cross_entropy(torch.from_numpy(logits), torch.tensor(tokens), reduction="sum"))


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield `BATCH_SIZE` items at a time."""
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]
