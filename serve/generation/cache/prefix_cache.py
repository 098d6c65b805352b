"""The prefix cache: KV states of processed prompts, reused for prompts that begin alike."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from serve.generation.request import SequenceState
from serve.runtime.buffers import States

MIN_PREFIX = 32
"""Tokens that two prompts must share at their beginning for the states of one to be copied for the other."""


Owner = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Prefix:
    """KV states of the beginning of a prompt."""

    states: States
    tokens: int
    """Tokens of the prompt that they cover, at most all but the last."""


class PrefixCache:
    """KV states of prompts by adapter and tokens; the least recently used are dropped first."""

    def __init__(self, max_tokens: int) -> None:
        """Create an empty cache for `max_tokens` tokens of prompts; 0 keeps none."""
        self.max_tokens = max_tokens
        self.entries: OrderedDict[tuple[Owner, tuple[int, ...]], States] = OrderedDict()
        """States by their owner and the prompt's tokens."""

    def find(self, sequence: SequenceState) -> Prefix | None:
        """Return the longest cached beginning of a prompt, or None if none has `MIN_PREFIX` tokens."""
        longest, key = 0, None
        for owner, tokens in self.entries:
            if owner == _owner(sequence) and (shared := _shared(tokens, sequence.prompt)) > longest:
                longest, key = shared, (owner, tokens)
        longest = min(longest, len(sequence.prompt) - 1)
        if key is None or longest < MIN_PREFIX:
            return None
        self.entries.move_to_end(key)
        return Prefix(self.entries[key], longest)

    def shares_prefix(self, sequence: SequenceState, others: Sequence[SequenceState]) -> bool:
        """Return True if one of `others` begins alike, so that the prompt had better wait for its states."""
        return self.max_tokens > 0 and any(
            _owner(other) == _owner(sequence)
            and min(_shared(other.prompt, sequence.prompt), len(sequence.prompt) - 1) >= MIN_PREFIX
            for other in others
        )

    def wants(self, sequence: SequenceState) -> bool:
        """Return True if the states of a prompt are worth keeping: most of it is not cached yet."""
        size, owner = len(sequence.prompt), _owner(sequence)
        known = max((_shared(tokens, sequence.prompt) for other, tokens in self.entries if other == owner), default=0)
        return MIN_PREFIX <= size <= self.max_tokens and known <= size - MIN_PREFIX

    def add(self, sequence: SequenceState, states: States) -> None:
        """Keep the states of a prompt, and drop others where the cache is full."""
        self.entries[_owner(sequence), tuple(sequence.prompt)] = states
        while sum(len(tokens) for _, tokens in self.entries) > self.max_tokens:
            self.entries.popitem(last=False)


def _owner(sequence: SequenceState) -> Owner:
    """Return the adapter's sha256 and the request's salt: others do not learn which prompts are cached."""
    return sequence.adapter.card.sha256, sequence.cache_salt


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of tokens that two prompts share at their beginning."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        count += 1
    return count
