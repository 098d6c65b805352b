"""Guesses of one sequence: its n-grams, and how often what they foretell comes true."""

from collections.abc import Sequence

from serve.generation.prompt_lookup.acceptance import Acceptance
from serve.generation.prompt_lookup.ngrams import Continuation, NgramIndex
from serve.generation.prompt_lookup.step_costs import StepCosts
from serve.generation.request import SequenceState


class RowGuesses:
    """The tokens that may come next in one sequence."""

    def __init__(self, sequence: SequenceState, shared: Acceptance, keys: Sequence[int] | None) -> None:
        """Read the prompt; `shared` are the rates of the adapter's rows, which this one adds to."""
        self.sequence, self.shared, self.own = sequence, shared, shared.copy()
        self.index = NgramIndex(keys)
        self.index.extend(sequence.prompt)
        self.seen = 0
        """Tokens of the text that are in the index."""
        self.last: Continuation | None = None
        """Tokens that were foretold from there on."""

    def next(self, most: int) -> Continuation | None:
        """Return up to `most` tokens that may come next, once those that came have been counted."""
        new = self.sequence.new_tokens[self.seen :]
        if self.last is not None and new:
            for rates in (self.own, self.shared):
                rates.note(self.last, new)
        self.index.extend(new)
        self.seen += len(new)
        room = self.sequence.max_new_tokens - len(self.sequence.tokens) - 1  # the last token needs no step of its own
        self.last = self.index.continuation(min(most, room)) if room > 0 else None
        return self.last

    def worth(self, guess: Continuation, costs: StepCosts) -> tuple[int, float]:
        """Return the number of tokens to verify, which gives the most tokens for its time, and the tokens expected."""
        expected = self.own.expected(guess)
        count = max(range(len(expected)), key=lambda one: expected[one] / costs.row(one + 1))
        return count, expected[count]
