"""Load a task's sets from the Hugging Face Hub with the `datasets` library."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from adamix_train.errors import DataError, first_line
from adamix_train.readers.reader import Row
from adamix_train.readers.triples import verbalise
from adamix_train.tasks.table import Hub


@dataclass(frozen=True)
class HubSets:
    """A task's training and test set."""

    train: list[Row]
    test: list[Row]
    fingerprints: dict[str, str]
    """Split → fingerprint, as `datasets` computes it."""


def load_hub(hub: Hub, *, target: str) -> HubSets:
    """Return the training and the test set; `datasets` downloads them unless they are in its cache.

    A test row with several references becomes one row a reference, which replaces its column `target`.

    Raises:
        DataError: the sets are not available.
    """
    try:
        import datasets

        sets = datasets.load_dataset(hub.path, hub.config, revision=hub.revision)
        train, test = sets["train"], sets[hub.test]
    except ImportError as error:
        raise DataError(
            f"a task without --train-file needs the datasets library ({error}): pip install datasets"
        ) from error
    except Exception as error:  # datasets raises any type without a network
        raise DataError(
            f"the set {hub.path} is not available from the Hub ({first_line(error)}): give its official files with "
            "--train-file and --test-file"
        ) from error
    return HubSets(
        train=_rows(train),
        test=_rows(row for raw in test for row in _each_reference(raw, hub.references, target)),
        fingerprints={"train": train._fingerprint, hub.test: test._fingerprint},
    )


def _each_reference(row: dict[str, Any], references: str | None, target: str) -> Iterator[dict[str, Any]]:
    for reference in row.get(references or "") or [row[target]]:
        yield {**row, target: reference}


def _rows(raw: Iterable[dict[str, Any]]) -> list[Row]:
    return [
        Row({name: _verbalised(value) for name, value in row.items()}, f"row {number}")
        for number, row in enumerate(raw, 1)
    ]


def _verbalised(value: Any) -> Any:
    """Return lists of triples, or of `subject | property | object`, as text, as in files; other values unchanged."""
    if isinstance(value, list):
        return verbalise([item.split(" | ") if isinstance(item, str) else item for item in value])
    return value
