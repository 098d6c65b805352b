"""The records of adapters' folders, the same for all workers of a server: a file in the private folder.

A worker that loads an adapter, or fails to, writes what became of its folder; the others read it there, and so does one
that starts later.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serve.adapter_loading import FolderRecord, Source

logger = logging.getLogger(__name__)
Version = tuple[int, int, int]
"""Inode, size and time of change in ns of the file."""
NONE: Version = (0, 0, 0)


class SharedTurn:
    """A lock that one thread of all workers holds, which may take it again; that of a process that dies is free."""

    def __init__(self, file: Path) -> None:
        """Lock a file, which need not be there."""
        self.file, self.thread_turn = file, threading.RLock()
        self.depth, self.descriptor = 0, -1

    def __enter__(self) -> Self:
        """Wait for the turn."""
        self.thread_turn.acquire()
        if not self.depth:
            try:
                self.descriptor = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            except BaseException:
                self.thread_turn.release()
                raise
        self.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the turn back."""
        self.depth -= 1
        if not self.depth:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
        self.thread_turn.release()


class SharedRecords(MutableMapping[str, FolderRecord]):
    """Records by the paths of their folders. Reading never waits; a change holds the turn."""

    def __init__(self, file: Path, turn: SharedTurn) -> None:
        """Keep records in a file, which need not be there."""
        self.file, self.turn = file, turn
        self.known: tuple[Version, dict[str, FolderRecord]] = (NONE, {})

    def __getitem__(self, path: str) -> FolderRecord:
        """Return a record."""
        return self._read()[path]

    def __iter__(self) -> Iterator[str]:
        """Yield the paths of this moment."""
        return iter(list(self._read()))

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._read())

    def values(self) -> Any:
        """Return the records of one moment."""
        return self._read().values()

    def __setitem__(self, path: str, record: FolderRecord) -> None:
        """Keep a record, for all workers."""
        with self.turn:
            self._write({**self._read(), path: record})

    def __delitem__(self, path: str) -> None:
        """Forget a record, on all workers."""
        with self.turn:
            left = dict(self._read())
            del left[path]
            self._write(left)

    def _read(self) -> dict[str, FolderRecord]:
        """Return the records, which nobody changes."""
        with contextlib.suppress(FileNotFoundError), self.file.open("rb") as file:
            stat = os.fstat(file.fileno())
            version = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if self.known[0] != version:
                self.known = (version, _parsed(file.read()))
        return self.known[1]

    def _write(self, records: dict[str, FolderRecord]) -> None:
        """Replace the file; on a full disk this worker alone knows of the change, until another one is written."""
        new = self.file.with_suffix(".new")
        try:
            new.write_text(json.dumps([asdict(record) for record in records.values()]), "utf-8")
            os.replace(new, self.file)
        except OSError as error:
            logger.error("the other workers do not hear what became of an adapter's folder: %s", error)
            self.known = (self.known[0], records)


def _parsed(content: bytes) -> dict[str, FolderRecord]:
    found: list[dict[str, Any]] = json.loads(content)
    records = [
        FolderRecord(
            **{**one, "source": Source(one["source"]), "fingerprint": tuple(tuple(file) for file in one["fingerprint"])}
        )
        for one in found
    ]
    return {record.path: record for record in records}
