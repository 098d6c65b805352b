"""Turn the rows of a data file into inputs: a text or a pair, an adapter, and what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass

from adamix_train.data.values import as_text
from adamix_train.errors import DataError
from adamix_train.readers.reader import Row, listed
from serve.requests import Text


@dataclass(frozen=True, slots=True)
class Input:
    """One row as an engine takes it."""

    text: Text
    adapter: str | None
    """None selects the bundle's only adapter."""
    expected: str | None = None
    """Expected label or score; None if the row has none."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns that are read of every row."""

    source: object
    """The file, for errors."""
    text: str
    pair: str
    """Column of the second text, for adapters that take pairs."""
    label: str | None
    adapter: str | None
    """Column that names the adapter; None gives `adapter_name` to every row."""
    adapter_name: str | None
    pairs: Mapping[str | None, bool]
    """Adapter → it takes pairs."""

    def check(self, row: Row) -> None:
        """Raise a DataError if a row, unless it is malformed, lacks a column that every row needs."""
        if row.fault is not None:
            return
        names = [self.text, self.label, self.adapter]
        if self.adapter is None and self.pairs.get(self.adapter_name):
            names.append(self.pair)
        for name in names:
            if name is not None:
                self._value(row, name)

    def read(self, row: Row) -> Input:
        """Return the input of a row.

        Raises:
            DataError: A column is missing, or a text or the name of the adapter is empty.
        """
        name = self.adapter_name if self.adapter is None else self._filled(row, self.adapter, "adapter").strip()
        text = self._filled(row, self.text, "text")
        pair = (text, self._filled(row, self.pair, "text")) if self.pairs.get(name) else None
        return Input(pair or text, name, self._expected(row))

    def _expected(self, row: Row) -> str | None:
        if self.label is None:
            return None
        value = self._value(row, self.label)
        return None if value is None else as_text(value, "score", row.place, self.source).strip() or None

    def _filled(self, row: Row, column: str, noun: str) -> str:
        value = as_text(self._value(row, column), noun, row.place, self.source)
        if not value.strip():
            raise DataError(f"{self.source}: the {noun} of {row.place} is empty")
        return value

    def _value(self, row: Row, column: str) -> object:
        if column not in row.values:
            raise DataError(
                f"{self.source} has no column {column!r} in {row.place}; its columns are {listed(row.values)} "
                "(select others with --text-column, --pair-column, --label-column and --adapter-column, or the "
                "character between them with --delimiter)"
            )
        return row.values[column]
