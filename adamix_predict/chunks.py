"""Predict the rows of one chunk, and say which of them cannot be predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adamix_predict.columns import Columns, Input
from adamix_predict.job import Job
from adamix_predict.metrics import metrics_of
from adamix_predict.predictors import Predictor, Values
from adamix_predict.summary import Summary
from adamix_train.errors import DataError
from adamix_train.readers.reader import Row
from serve.errors import ClassificationFailed, GenerationFailed, InputError, ServeError, UnknownAdapter

OF_A_ROW = (InputError, UnknownAdapter, ClassificationFailed, GenerationFailed)
"""Errors that are one row's, and not the bundle's."""
ERROR = "error"
"""Added column with the reason why a row has no prediction."""
HINT = "correct or remove the row, or go on without it by --bad-rows keep"


@dataclass(frozen=True, kw_only=True)
class ChunkPredictor:
    """Adds columns to rows, and counts them in a summary."""

    job: Job
    predictor: Predictor
    columns: Columns
    added: Sequence[str]
    """Columns that every row gets, without the prefix."""
    summary: Summary

    def with_values(self, rows: Sequence[Row], values: Sequence[Values]) -> list[Row]:
        """Return rows with the columns that their values fill, and count them."""
        self.summary.rows += len(rows)
        return [
            Row({**row.values, **{self.job.prefix + name: one.get(name) for name in self.added}}, row.place)
            for row, one in zip(rows, values, strict=True)
        ]

    def recall(self, rows: Sequence[Row], values: Sequence[Values]) -> None:
        """Count rows whose values are known as if they had been predicted now.

        Raises:
            DataError: The values are those of other rows, such as of a journal that another version has written.
        """
        if len(rows) != len(values) or not all(isinstance(one, dict) for one in values):
            raise DataError(
                f"the journal has other rows than {self.job.file} from {rows[0].place} on: remove the journal and "
                "begin anew"
            )
        for row, row_values in zip(rows, values, strict=True):
            if row_values.get(ERROR) is not None:
                self.summary.bad_rows += 1
                continue
            self._count(self._input(row), row_values)

    def predict(self, rows: Sequence[Row]) -> list[Values]:
        """Return the values of rows.

        Raises:
            DataError: A row cannot be predicted, unless such rows are kept; or it has a column of an added one's name.
        """
        values: dict[int, Values] = {}
        inputs: dict[int, Input] = {}
        for index, row in enumerate(rows):
            self._check_names(row)
            if row.fault is not None:
                values[index] = self._without_prediction(row, DataError(f"{self.job.file}: {row.fault}"))
                continue
            try:
                inputs[index] = self._input(row)
            except (DataError, *OF_A_ROW) as error:
                values[index] = self._without_prediction(row, error)
        self._run(rows, inputs, list(inputs), values)
        return [values[index] for index in range(len(rows))]

    def _input(self, row: Row) -> Input:
        found = self.columns.read(row)
        card = self.predictor.card(found.adapter)
        if found.expected is not None:
            self.summary.metrics.setdefault(card.name, metrics_of(card)).check(found.expected)
        return found

    def _run(
        self, rows: Sequence[Row], inputs: Mapping[int, Input], indices: Sequence[int], values: dict[int, Values]
    ) -> None:
        """Predict the rows at some indices in one call; halve them to find the one that an error is about."""
        asked = [inputs[index] for index in indices]
        try:
            found = self.predictor([one.text for one in asked], [one.adapter for one in asked]) if asked else []
        except OF_A_ROW as error:
            if len(indices) == 1:
                values[indices[0]] = self._without_prediction(rows[indices[0]], error)
                return
            middle = len(indices) // 2
            self._run(rows, inputs, indices[:middle], values)
            self._run(rows, inputs, indices[middle:], values)
            return
        for index, one, row_values in zip(indices, asked, found, strict=True):
            values[index] = row_values
            self._count(one, row_values)

    def _count(self, one: Input, values: Values) -> None:
        self.summary.cut_texts += self.predictor.is_cut(one.text, one.adapter)
        if one.expected is not None:
            self.summary.metrics[self.predictor.card(one.adapter).name].add(one.expected, values)

    def _without_prediction(self, row: Row, error: Exception) -> Values:
        """Return the reason as the row's value; raise it if such a row ends the job."""
        reason = f"{self.job.file}: {row.place}: {error}" if isinstance(error, ServeError) else str(error)
        if not self.job.keep_bad_rows:
            raise DataError(f"{reason}; {HINT}") from error
        self.summary.bad_rows += 1
        return {ERROR: reason}

    def _check_names(self, row: Row) -> None:
        for name in self.added:
            if self.job.prefix + name in row.values:
                raise DataError(
                    f"{self.job.file} has a column {self.job.prefix + name!r} itself, in {row.place}: name the added "
                    "ones otherwise with --prefix"
                )
