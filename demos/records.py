"""Records of a data-to-text task, `name[Lantern Walk], price[free]`, and how much of them a text states."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FIELD = re.compile(r"(\w+)\[([^\]]*)\]")


@dataclass(frozen=True)
class RecordText:
    """A record and the text that somebody wrote for it."""

    input: str
    """The record as a model reads it."""
    target: str

    @property
    def values(self) -> list[str]:
        """Values of its fields, in their order."""
        return record_values(self.input)


def read_records(file: Path) -> list[RecordText]:
    """Return the records of a JSON-lines file with the keys `input` and `target`."""
    return [RecordText(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def record_values(record: str) -> list[str]:
    """Return the values of a record's fields: `["Lantern Walk", "free"]`."""
    return [value for _, value in FIELD.findall(record)]


def fact_coverage(texts: Sequence[str], records: Sequence[str]) -> float:
    """Return the share, 0 to 1, of all values of the records that stand literally in their texts, in any case.

    What a text adds or gets wrong beside the values is not measured.
    """
    stated = [
        value.casefold() in text.casefold()
        for text, record in zip(texts, records, strict=True)
        for value in record_values(record)
    ]
    return sum(stated) / len(stated)
