"""Read data-to-text sets of triples: WebNLG (Gardent et al., 2017) and DART (Nan et al., 2021)."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from adamix_train.readers.reader import FileFormat, Reader, Row, open_text

PARTS = ("subject", "property", "object")


def verbalise(triples: Sequence[Sequence[str]]) -> str:
    """Return triples as one line: `subject : property : object | …`."""
    return " | ".join(" : ".join(part.replace("_", " ") for part in triple) for triple in triples)


def _of_format(name: str) -> Callable[[Reader], Reader]:
    """Make a reader raise one ValueError that names the format, if its file has another structure."""

    def wrap(read: Reader) -> Reader:
        @functools.wraps(read)
        def checked(file: Path, form: FileFormat) -> Iterator[Row]:
            try:
                yield from read(file, form)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"the file does not have the structure of {name}: {error!r}") from error

        return checked

    return wrap


@_of_format("WebNLG")
def read_webnlg(file: Path, form: FileFormat) -> Iterator[Row]:
    """Yield `input` and `target` for each text of a challenge file that is marked as good."""
    for number, entry in enumerate(_content(file)["entries"], 1):
        for item in entry.values():
            source = verbalise([[triple[part] for part in PARTS] for triple in item["modifiedtripleset"]])
            for text in item["lexicalisations"]:
                if text["comment"] in ("", "good"):
                    yield Row({"input": source, "target": text["lex"]}, f"entry {number}")


@_of_format("DART")
def read_dart(file: Path, form: FileFormat) -> Iterator[Row]:
    """Yield `tripleset` and `target` for each annotation of a release file."""
    for number, entry in enumerate(_content(file), 1):
        for text in entry["annotations"]:
            yield Row({"tripleset": verbalise(entry["tripleset"]), "target": text["text"]}, f"entry {number}")


def _content(file: Path) -> Any:
    with open_text(file) as stream:
        return json.load(stream)
