"""A static batch: prompts decoded together from the first token to the last, as export checks and canaries need them.

It runs on the same `ModelRunner` as the scheduler of a server, with a KV cache of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.adapters.canaries import compare_canaries
from serve.bundle.adapter import Adapter
from serve.generation.model_runner import ModelRunner
from serve.generation.prompts import Prompt
from serve.generation.sampling.logits import Logits
from serve.loaded_model import LoadedModel


@dataclass(eq=False, kw_only=True)
class StaticRow:
    """One row of a static batch."""

    source: Sequence[int]
    """Tokens of the encoder's input; empty for a decoder alone."""
    slot: int
    """Slot of the adapter in the bank."""
    total_tokens: int
    """Tokens that are in the cache after the next run."""


class StaticBatch:
    """Prompts that are decoded together; `logits` are those after the newest tokens, (prompts, vocabulary)."""

    def __init__(
        self, model: LoadedModel, prompts: Sequence[Prompt], slots: Sequence[int], *, max_new_tokens: int
    ) -> None:
        """Prefill the prompts.

        Args:
            model: An open bundle.
            prompts: The prompts.
            slots: Slot of each prompt's adapter, which must stay there while the batch is used.
            max_new_tokens: Most tokens that will be appended to each prompt.

        Raises:
            Overloaded: Memory is short.
        """
        ids: list[list[int]] = [prompt.input_ids for prompt in prompts]
        sources: list[list[int]] = [[] for _ in prompts]
        if model.encoder is not None:
            ids, sources = [[model.bundle.manifest.start_token_id or 0] for _ in prompts], ids
        self.rows = [
            StaticRow(source=source, slot=slot, total_tokens=len(row))
            for row, source, slot in zip(ids, sources, slots, strict=True)
        ]
        tokens, source_tokens = max(map(len, ids)) + max_new_tokens, max(map(len, sources))
        self.runner = ModelRunner(model, max_tokens=len(ids) * max(tokens, source_tokens))
        self.runner.reserve(len(ids), tokens=tokens, source_tokens=source_tokens)
        self.runner.encode(self.rows, first=0)
        self.logits = self._run(ids)

    def append(self, tokens: Sequence[int]) -> None:
        """Append one token to every row, and run it."""
        for row in self.rows:
            row.total_tokens += 1
        self.logits = self._run([[token] for token in tokens])

    def _run(self, ids: Sequence[Sequence[int]]) -> Logits:
        return self.runner.run(ids, self.rows, first=0).all()


@contextmanager
def static_batch(model: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Iterator[StaticBatch]:
    """Yield a batch of prompts, whose adapters keep their slots until the block ends."""
    if model.bank is None:
        yield StaticBatch(model, prompts, [0] * len(prompts), max_new_tokens=max_new_tokens)
        return
    with model.bank.acquire([prompt.adapter for prompt in prompts]) as (slots, _):
        yield StaticBatch(model, prompts, slots.tolist(), max_new_tokens=max_new_tokens)


def forced_logits(
    model: LoadedModel, prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]]
) -> list[NDArray[np.float32]]:
    """Return the logits before each of given tokens, as if these had been generated (teacher forcing).

    Args:
        model: An open bundle.
        prompts: The prompts, decoded in one batch.
        tokens: Tokens behind each prompt.

    Returns:
        One array (tokens, vocabulary) for each prompt.
    """
    longest = max(map(len, tokens))
    steps = []
    with static_batch(model, prompts, max_new_tokens=longest) as batch:
        for step in range(longest):
            steps.append(batch.logits)
            if step + 1 < longest:
                batch.append([row[min(step, len(row) - 1)] for row in tokens])
    return [np.stack([logits[index] for logits in steps[: len(row)]]) for index, row in enumerate(tokens)]


def greedy_logits(
    model: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int
) -> tuple[list[list[int]], list[NDArray[np.float32]]]:
    """Generate greedily after prompts, in one batch.

    Returns:
        For each prompt its tokens, with the one that ended the text, and the logits before each, (tokens, vocabulary).
    """
    ends = [prompt.adapter.card.eos_token_ids for prompt in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    steps: list[NDArray[np.float32]] = []
    with static_batch(model, prompts, max_new_tokens=max_new_tokens) as batch:
        for _ in range(max_new_tokens):
            if steps:
                batch.append([row[-1] for row in tokens])
            steps.append(batch.logits)
            for row, end, token in zip(tokens, ends, batch.logits.argmax(-1).tolist(), strict=True):
                if not row or row[-1] not in end:
                    row.append(token)
            if all(row[-1] in end for row, end in zip(tokens, ends, strict=True)):
                break
    return tokens, [np.stack([step[index] for step in steps[: len(row)]]) for index, row in enumerate(tokens)]


def check_canaries(model: LoadedModel, adapters: Sequence[Adapter]) -> None:
    """Raise a BundleError if an adapter does not give PyTorch's logits on its canary rows."""
    for adapter in adapters:
        card = adapter.card
        logits = forced_logits(model, [Prompt(ids, adapter) for ids in card.canary_ids], card.canary_tokens)
        found = [row[range(len(tokens)), tokens] for row, tokens in zip(logits, card.canary_tokens, strict=True)]
        compare_canaries(card, found, model.bundle.manifest)
