"""Read sets of triples and the texts that say them: WebNLG (Gardent et al., 2017) and DART (Nan et al., 2021)."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from adamix_train.readers.files import Header, Reader, Row

PARTS = ("subject", "property", "object")


def said(triples: Sequence[Sequence[str]]) -> str:
    """Return triples as one line: `subject : property : object | …`."""
    return " | ".join(" : ".join(part.replace("_", " ") for part in triple) for triple in triples)


def _laid_out_as(name: str) -> Callable[[Reader], Reader]:
    """Turn what is missing in a reader's file into one error about the file."""

    def wrap(read: Reader) -> Reader:
        @functools.wraps(read)
        def checked(stream: TextIO, header: Header, quoted: bool) -> Iterator[Row]:
            try:
                yield from read(stream, header, quoted)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"the file is not laid out as {name}'s: {error!r}") from error

        return checked

    return wrap


@_laid_out_as("WebNLG")
def read_webnlg(stream: TextIO, header: Header, quoted: bool) -> Iterator[Row]:
    """Yield columns `input` and `target` for each text of a challenge file that is marked as good."""
    for entry in json.load(stream)["entries"]:
        for item in entry.values():
            source = said([[triple[part] for part in PARTS] for triple in item["modifiedtripleset"]])
            for text in item["lexicalisations"]:
                if text["comment"] in ("", "good"):
                    yield {"input": source, "target": text["lex"]}


@_laid_out_as("DART")
def read_dart(stream: TextIO, header: Header, quoted: bool) -> Iterator[Row]:
    """Yield columns `tripleset` and `target` for each annotation of a release file."""
    for entry in json.load(stream):
        for text in entry["annotations"]:
            yield {"tripleset": said(entry["tripleset"]), "target": text["text"]}
