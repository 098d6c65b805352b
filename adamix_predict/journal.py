"""The journal of a job that may be stopped: the values of each chunk, on the disk as soon as they are there.

It is a file of JSON lines beside the job's output: what the job is, then the rows of one chunk in each line. A job that
goes on takes the values of its first chunks from there; the output is written anew and is that of an undisturbed run.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from adamix_predict.job import Job
from adamix_predict.predictors import Values
from adamix_train.errors import DataError
from serve.bundle.reader import Bundle

SUFFIX = ".journal"
ELSEWHERE = ("out", "force", "resume", "bundle", "file")
"""Fields of a job that do not change its values, or whose content counts rather than their name."""
Identity = dict[str, Any]


class Journal:
    """Values that earlier runs of a job have found, and a place for more."""

    def __init__(self, stream: TextIO, known: list[list[Values]]) -> None:
        self.stream, self.known = stream, known

    def add(self, values: Sequence[Values]) -> None:
        """Keep the values of the next chunk; they are on the disk when this returns."""
        self.stream.write(json.dumps(values) + "\n")
        self.stream.flush()
        os.fsync(self.stream.fileno())


def identity_of(job: Job, bundle: Bundle, chunk_rows: int) -> Identity:
    """Return what decides the values of a job: its bundle's and its file's content, and its options."""
    options = {name: value for name, value in asdict(job).items() if name not in ELSEWHERE}
    with job.file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    adapters = {name: adapter.card.sha256 for name, adapter in bundle.adapters.items()}
    return {
        "file": content,
        "graph": bundle.hashes(bundle.model),
        "adapters": adapters,
        "chunk_rows": chunk_rows,
        **options,
    }


@contextmanager
def open_journal(out: Path, identity: Identity) -> Iterator[Journal]:
    """Yield the journal of a job that writes `out`; it is removed when the block ends without an error.

    Raises:
        DataError: The journal that is there is that of another job.
    """
    file = out.with_name(out.name + SUFFIX)
    file.parent.mkdir(parents=True, exist_ok=True)
    known = _read(file, identity)
    with file.open("a", encoding="utf-8") as stream:
        if known is None:
            stream.write(json.dumps(identity) + "\n")
            stream.flush()
        yield Journal(stream, known or [])
    file.unlink()


def _read(file: Path, identity: Identity) -> list[list[Values]] | None:
    """Return the values of each chunk, None without a journal, and cut off a last line that is not whole."""
    if not file.exists():
        return None
    whole, content = 0, file.read_bytes()
    found: list[Any] = []
    for line in content.splitlines(keepends=True):
        try:
            found.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith(b"\n"):
            found.pop()
            break
        whole += len(line)
    if whole < len(content):
        os.truncate(file, whole)
    if not found:
        return None
    before = found[0] if isinstance(found[0], dict) else {}
    if changed := [name for name in {**before, **identity} if before.get(name) != identity.get(name)]:
        raise DataError(
            f"{file} is the journal of another job, with another {', '.join(changed)}: repeat that one, or remove the "
            "file"
        )
    return found[1:]
