"""Steps that verify guesses: a row's newest token and those that may follow it are run at once.

The logits behind each token are those of the text so far as long as the tokens before them were the ones chosen. So
every token is chosen from the logits, with the numbers, and under the conditions that it would have alone: a text ends
where it would, and is the same. States of tokens that were not chosen lie behind the row's end, where the next step
writes.

ONNX Runtime's attention takes several new tokens of one row only, so that rows run one after another. They do where
even the row that expects the fewest tokens has more of them for the time than from a step of all rows together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from serve.generation.model_runner import ModelRunner
from serve.generation.next_token import check_finite, choose_next, fail
from serve.generation.prompt_lookup.acceptance import Acceptance
from serve.generation.prompt_lookup.row_guesses import RowGuesses
from serve.generation.prompt_lookup.step_costs import StepCosts
from serve.generation.request import CacheRow, SequenceState
from serve.generation.step_outputs import StepLogits

MOST_ADAPTERS = 1024
"""Adapters whose rates are kept."""
MOST_ROWS = 6
"""Rows beyond which a step of all of them is faster than any guesses."""
MARGIN, MARGIN_OF_BATCH = 1.05, 1.25
"""Times as many tokens a second that are expected of guesses as without, or none are made: of one row, and of several,
whose guesses are given up as a whole."""


@dataclass(frozen=True)
class GuessedRow:
    """A row that is run with guesses."""

    row: CacheRow
    guesses: Sequence[int]
    expected: float
    """Tokens that the step is expected to give."""
    cost: float
    """Its cost, in steps of one token of one row."""

    @property
    def total_tokens(self) -> int:
        """Tokens that are in the cache after the run."""
        return self.row.total_tokens + len(self.guesses)

    @property
    def source(self) -> Sequence[int]:
        """Tokens of the encoder's input: none."""
        return ()

    @property
    def slot(self) -> int:
        """Slot of the adapter in the bank."""
        return self.row.slot


class PromptLookup:
    """Guesses for the rows of a decoder."""

    def __init__(self, most: int, precision: str, keys: Sequence[int] | None = None) -> None:
        """Guess up to `most` tokens a step; 0 guesses none. `keys` are those of `NgramIndex`."""
        self.most, self.keys = most, keys
        self.costs = StepCosts(precision)
        self.rows: WeakKeyDictionary[SequenceState, RowGuesses] = WeakKeyDictionary()
        self.rates: dict[str, Acceptance] = {}
        """Rates by the sha256 of the adapter."""

    def plan(self, rows: Sequence[CacheRow]) -> list[GuessedRow]:
        """Return the rows with their guesses, or nothing where a step of all rows is not expected to be slower.

        Rows of a beam search, and those whose prompt is being read, have no guesses.
        """
        if not self.most or not 0 < len(rows) <= MOST_ROWS:
            return []
        if any(row.sequence.beam_search is not None or row.sequence.is_reading for row in rows):
            return []
        planned = [self._guessed(row) for row in rows]
        least, cost = min(one.expected for one in planned), sum(one.cost for one in planned)
        margin = MARGIN if len(rows) == 1 else MARGIN_OF_BATCH
        return planned if least * self.costs.batch(len(rows)) > margin * cost else []

    def verify(self, runner: ModelRunner, planned: Sequence[GuessedRow]) -> None:
        """Run rows with their guesses, one after another, and choose their next tokens."""
        for index, one in enumerate(planned):
            sequence, tokens = one.row.sequence, [one.row.tokens[-1], *one.guesses]
            one.row.guessed_tokens += len(one.guesses)
            try:
                with self.costs.timed(rows=1, tokens=len(tokens)):
                    logits = runner.run([tokens], [one], first=index, positions=len(tokens))
                if logits.is_finite.all():
                    _choose(one.row, logits, one.guesses)
                else:
                    _choose(one.row, _without_guesses(runner, one.row, index), ())
            except Exception as error:  # a fault of one sequence leaves the others alone
                fail(sequence, error)

    def _guessed(self, row: CacheRow) -> GuessedRow:
        if row.sequence not in self.rows:
            self.rows[row.sequence] = RowGuesses(row.sequence, self._rates(row.sequence), self.keys)
        own = self.rows[row.sequence]
        guess = own.next(self.most)
        if guess is None:
            return GuessedRow(row, (), 1.0, self.costs.row(1))
        count, expected = own.worth(guess, self.costs)
        return GuessedRow(row, guess.tokens[:count], expected, self.costs.row(count + 1))

    def _rates(self, sequence: SequenceState) -> Acceptance:
        key = sequence.adapter.card.sha256
        if key not in self.rates and len(self.rates) >= MOST_ADAPTERS:
            del self.rates[next(iter(self.rates))]
        return self.rates.setdefault(key, Acceptance())


def _without_guesses(runner: ModelRunner, row: CacheRow, index: int) -> StepLogits:
    """Return the logits behind a row's newest token, run by itself, with zeros in the cache behind it.

    A guess whose states are not finite makes those of the tokens before it so: no mask hides them.
    """
    states = runner.cache.read(index, row.cached_tokens)
    runner.cache.clear(index)
    runner.cache.write(index, states, row.cached_tokens)
    return runner.run([row.tokens[-1:]], [row], first=index)


def _choose(row: CacheRow, logits: StepLogits, guesses: Sequence[int]) -> None:
    """Choose tokens from the logits of a step, as far as the guesses before them came true."""
    sequence = row.sequence
    for place, guess in enumerate([*guesses, None]):
        check_finite(sequence, logits, [place])
        choose_next(sequence, logits, place)
        if sequence.finish_reason is not None or sequence.new_tokens[-1] != guess:
            return
        row.accepted_tokens += 1
