"""What was read of prompts, kept for others that begin in the same way."""

from collections import OrderedDict
from collections.abc import Sequence

from serve.generation.request import Generation
from serve.runtime.buffers import States

SHORTEST_PREFIX = 32
"""Tokens that prompts must share for the cache of one to be copied for another."""


class Prefixes:
    """The cache of prompts that were read, for others that begin in the same way; the one used last stays longest."""

    def __init__(self, tokens: int) -> None:
        self.room = tokens
        self.kept: OrderedDict[tuple[str, tuple[int, ...]], States] = OrderedDict()

    def find(self, generation: Generation) -> tuple[States | None, int]:
        """Return states that a prompt begins with, and how many of its tokens they are: all but the last at most."""
        best, key = 0, None
        for sha256, tokens in self.kept:
            if sha256 == generation.adapter.card.sha256 and (same := _same(tokens, generation.prompt)) > best:
                best, key = same, (sha256, tokens)
        best = min(best, len(generation.prompt) - 1)
        if key is None or best < SHORTEST_PREFIX:
            return None, 0
        self.kept.move_to_end(key)
        return self.kept[key], best

    def shared(self, generation: Generation, others: Sequence[Generation]) -> bool:
        """Return whether a prompt had better wait until another, with the same beginning, is read."""
        return any(
            other.adapter.card.sha256 == generation.adapter.card.sha256
            and min(_same(other.prompt, generation.prompt), len(generation.prompt) - 1) >= SHORTEST_PREFIX
            for other in others
        )

    def wants(self, generation: Generation) -> bool:
        """Return whether a prompt that was read is to be kept: not if most of it is there already."""
        size, sha256 = len(generation.prompt), generation.adapter.card.sha256
        known = max((_same(tokens, generation.prompt) for other, tokens in self.kept if other == sha256), default=0)
        return SHORTEST_PREFIX <= size <= self.room and known <= size - SHORTEST_PREFIX

    def keep(self, generation: Generation, states: States) -> None:
        """Keep the states of a prompt that was read."""
        self.kept[generation.adapter.card.sha256, tuple(generation.prompt)] = states
        while sum(len(tokens) for _, tokens in self.kept) > self.room:
            self.kept.popitem(last=False)


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two prompts share at their beginning."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        count += 1
    return count
