"""A CSV file through classifiers: its rows in requests of many, and the file with their labels."""

import asyncio
import csv
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from demos.page import markup
from demos.page.classification import LabelScores, predict
from demos.page.server_client import PageError, ServerClient

TEXT_COLUMNS = ("text", "sentence", "input", "message")
"""Names of columns that hold the texts, the likeliest first."""
OTHER_SEPARATORS: dict[str, str] = {";": "semicolons", "\t": "tabs"}
"""Signs that some programs put between columns, by what they are called."""
MAX_TRIES = 6
MAX_WAIT = 30.0
"""Times that a request is sent while the server is busy, and the most seconds between two of them."""


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """Rows of a file by column."""

    columns: list[str]
    rows: list[dict[str, str]]

    @property
    def text_column(self) -> str:
        """The column that holds the texts, as far as its name says."""
        named = [column for name in TEXT_COLUMNS for column in self.columns if column.lower() == name]
        return (named or self.columns)[0]

    def describe(self) -> str:
        """Return how many rows there are, and whether the file seems to be separated by something else than commas."""
        rows = f"{markup.count(len(self.rows), 'row')}."
        (first, *others) = self.columns
        kinds = [name for sign, name in OTHER_SEPARATORS.items() if sign in first and not others]
        asked = [f" One column, {first!r}: is the file separated by {name}? Save it with commas." for name in kinds[:1]]
        return rows + "".join(asked)


def read_csv(file: Path) -> CsvFile:
    """Return a file's rows.

    Raises:
        PageError: It is no CSV file with a header and a row.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or ())
            rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    except UnicodeDecodeError as error:
        raise PageError(f"{file.name} is not in UTF-8: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise PageError(f"{file.name} cannot be read as CSV: {error}.") from error
    if not rows or not all(columns):
        raise PageError(f"{file.name} needs a first line with a name for each column, and a row below it.")
    return CsvFile(columns=columns, rows=rows)


async def label_rows(
    client: ServerClient, texts: Sequence[str], adapters: Sequence[str], *, max_texts: int
) -> AsyncGenerator[list[LabelScores], None]:
    """Yield the results of every text, in order and for each text in the order of `adapters`, request by request.

    Raises:
        PageError: The server does not answer, or stays busy.
    """
    inputs = [(text, adapter) for text in texts for adapter in adapters]
    for start in range(0, len(inputs), max_texts):
        yield await _patiently(client, inputs[start : start + max_texts])


def write_csv(file: Path, content: CsvFile, adapters: Sequence[str], results: Sequence[LabelScores]) -> None:
    """Write a file with a label and a score a row for each adapter; rows without a result are left out."""
    columns = [_free(content.columns, name) for adapter in adapters for name in (adapter, f"{adapter}_score")]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*content.columns, *columns])
        for number, row in enumerate(content.rows[: len(results) // len(adapters)]):
            mine = results[number * len(adapters) : (number + 1) * len(adapters)]
            found = [value for one in mine for value in (one.scores[0][0], f"{one.scores[0][1]:.6f}")]
            writer.writerow([*(row.get(column, "") for column in content.columns), *found])


async def _patiently(client: ServerClient, inputs: Sequence[tuple[str, str]]) -> list[LabelScores]:
    """Return the results of a request, which is sent again while the server is busy."""
    for left in reversed(range(MAX_TRIES)):
        try:
            return (await predict(client, inputs)).results
        except PageError as error:
            if error.status != 429 or not left:
                raise
            await asyncio.sleep(min(error.retry_after or 1.0, MAX_WAIT))
    raise AssertionError


def _free(columns: Sequence[str], name: str) -> str:
    """Return a name that no column has."""
    while name in columns:
        name += "_predicted"
    return name
