"""The status board: a page of memory in which workers write how they are, for their supervisor and each other."""

import enum
import mmap
from dataclasses import dataclass

FIELDS = ("pid", "number", "state", "heartbeat", "connections", "requests", "reloads", "failed_reloads")
"""Fields of an entry, numbers of eight bytes each, which are written at once."""
HEADER = ("restarts", "is_stopping")


class WorkerState(enum.IntEnum):
    """The life of a worker."""

    STARTING = 1
    """It opens its bundles."""
    OPEN = 2
    """It has the adapters that its siblings have, and hears of changes."""
    WARMING = 3
    """From here on it has a heartbeat, and takes requests unless a sibling is ready."""
    READY = 4
    STOPPING = 5


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """One worker, as it was at a moment."""

    entry: int
    pid: int
    number: int
    """Place of the worker among those of its server; a worker and its successor have the same."""
    state: WorkerState
    heartbeat: float
    """Time of its last heartbeat, in seconds of the monotonic clock, which all processes of a machine share."""
    connections: int
    requests: int
    """Requests over HTTP that it has not answered."""
    reloads: int
    """Reloads that it has completed."""
    failed_reloads: int
    """Those of them that have changed nothing."""


class StatusBoard:
    """Entries for so many workers; each is written by its worker, and begun and ended by the supervisor."""

    def __init__(self, entries: int) -> None:
        """Make an empty board, in memory that forked processes share."""
        self.entries = entries
        self.values = memoryview(mmap.mmap(-1, 8 * (len(HEADER) + entries * len(FIELDS)))).cast("d")

    def begin(self, entry: int, *, number: int) -> None:
        """Begin the entry of a process that starts; it counts from when it has a `pid`."""
        self.end(entry)
        self.set(entry, "number", number)
        self.set(entry, "state", WorkerState.STARTING)

    def end(self, entry: int) -> None:
        """Clear the entry of a process that is gone."""
        for name in FIELDS:
            self.set(entry, name, 0)

    def set(self, entry: int, field: str, value: float) -> None:
        """Write one field of an entry."""
        self.values[len(HEADER) + entry * len(FIELDS) + FIELDS.index(field)] = float(value)

    def get(self, entry: int) -> WorkerStatus | None:
        """Return the worker of an entry; None if there is none."""
        first = len(HEADER) + entry * len(FIELDS)
        found = dict(zip(FIELDS, self.values[first : first + len(FIELDS)].tolist(), strict=True))
        if not found["pid"] or not found["state"]:
            return None
        return WorkerStatus(
            entry=entry,
            pid=int(found["pid"]),
            number=int(found["number"]),
            state=WorkerState(int(found["state"])),
            heartbeat=found["heartbeat"],
            connections=int(found["connections"]),
            requests=int(found["requests"]),
            reloads=int(found["reloads"]),
            failed_reloads=int(found["failed_reloads"]),
        )

    def workers(self) -> list[WorkerStatus]:
        """Return all workers that run, in the order of their numbers."""
        found = [status for entry in range(self.entries) if (status := self.get(entry)) is not None]
        return sorted(found, key=lambda one: (one.number, one.entry))

    @property
    def restarts(self) -> int:
        """Workers that were started in the place of one that died or hung."""
        return int(self.values[0])

    @property
    def is_stopping(self) -> bool:
        """True once the server as a whole has been told to stop."""
        return bool(self.values[1])

    def stop(self) -> None:
        """Note that it has."""
        self.values[1] = 1

    def count_restart(self) -> None:
        """Count one such worker."""
        self.values[0] += 1
