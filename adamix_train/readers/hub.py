"""Load a task's sets by name through the `datasets` library."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from adamix_train.errors import DataError
from adamix_train.readers.files import Row
from adamix_train.readers.triples import said
from adamix_train.tasks.table import Hub


@dataclass(frozen=True)
class HubSets:
    """The sets of a task, as rows of text."""

    train: list[Row]
    test: list[Row]
    fingerprints: dict[str, str]
    """By split, as `datasets` computes them."""


def load_hub(hub: Hub, *, target: str) -> HubSets:
    """Return the training set and the reported set; `datasets` downloads them if they are not in its cache.

    Where a reported row has several references it becomes one row for each, the reference in the column `target`.
    """
    try:
        import datasets

        sets = datasets.load_dataset(hub.path, hub.config, revision=hub.revision)
        train, test = sets["train"], sets[hub.test]
    except ImportError as error:
        raise DataError(f"tasks load by name with the datasets library ({error}): pip install datasets") from error
    except Exception as error:  # it raises what it likes without a network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"the set {hub.path} is not to be had from the hub ({reason}): give its official files with --train-file "
            "and --test-file"
        ) from error
    return HubSets(
        train=[_as_text(row) for row in train],
        test=[_as_text(row) for raw in test for row in _each_reference(raw, hub.references, target)],
        fingerprints={"train": train._fingerprint, hub.test: test._fingerprint},
    )


def _each_reference(row: dict[str, Any], references: str | None, target: str) -> Iterator[dict[str, Any]]:
    for reference in row.get(references or "") or [row[target]]:
        yield {**row, target: reference}


def _as_text(row: dict[str, Any]) -> Row:
    return {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> str:
    """Return a value as our readers have it: triples, as lists or as WebNLG's `subject | property | object`, said."""
    if isinstance(value, list):
        return said([item.split(" | ") if isinstance(item, str) else item for item in value])
    return str(value)
