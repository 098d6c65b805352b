"""The rows that one text takes in batches: its windows, through its adapter and the members of its mixture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from serve.bundle.adapter import Adapter
from serve.classification.prediction import average, ensemble_of, with_members
from serve.classification.text_tokenizer import EncodedText, Windows
from serve.prediction import Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRows:
    """The rows of one text; iterating over them builds its windows."""

    windows: Sequence[EncodedText] | Windows
    """The text through its adapter: one row, or one for each window."""
    members: Sequence[Adapter] = ()
    """Adapters that all of the windows go through as well."""
    ensemble: bool = False
    """Predict the mean of the members in place of the adapter, which then has no rows."""

    def __len__(self) -> int:
        return len(self.windows) * runs_of(self.members, ensemble=self.ensemble)

    def __iter__(self) -> Iterator[EncodedText]:
        if not (self.members and self.ensemble):
            yield from self.windows
        for member in self.members:
            for row in self.windows:
                yield replace(row, adapter=member)

    def combine(self, predictions: Iterator[Prediction]) -> Prediction:
        """Return the text's prediction, from those of its rows in order, which are taken from an iterator."""
        runs = runs_of(self.members, ensemble=self.ensemble)
        averages = [average([next(predictions) for _ in range(len(self.windows))]) for _ in range(runs)]
        if not self.members:
            return averages[0]
        members = averages[-len(self.members) :]
        adapter = next(iter(self.windows)).adapter
        return ensemble_of(adapter.card, members) if self.ensemble else with_members(averages[0], members)


def runs_of(members: Sequence[Adapter], *, ensemble: bool) -> int:
    """Return the number of adapters that a text goes through: its own and its members; in an ensemble, these alone."""
    return len(members) + (not (members and ensemble))
