"""A worker's place: what a supervisor hands to a process that it forks."""

import atexit
import ctypes
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import values

from serve.workers.board import StatusBoard
from serve.workers.kept_settings import KeptSettings

PR_SET_PDEATHSIG = 1
LOCK, STATE, INTENT, SNAPSHOTS, METRICS, ALLOWANCES, OUTAGE, RECORDS, TURN = (
    "lock",
    "adapters.json",
    "unfinished",
    "snapshots",
    "metrics",
    "allowances",
    "outage",
    "records.json",
    "turn",
)
"""Files and folders of the private folder that the workers of a server share."""


@dataclass(frozen=True, kw_only=True)
class WorkerPlace:
    """A worker's place among those of its server."""

    number: int
    entry: int
    """Entry of the status board."""
    board: StatusBoard
    folder: Path
    """The private folder."""
    cores: Sequence[int]
    """Cores that the worker is pinned to; empty leaves it where it is."""
    threads: int
    """Threads of a run on the CPU where `--threads` does not say."""
    supervisor: int
    """Process id of the supervisor."""
    kept: KeptSettings
    """The settings that the workers run with."""
    is_anew: bool
    """The worker reads its settings itself, also where others run with other ones."""

    @property
    def control_socket(self) -> Path:
        """Address of the socket on which siblings ask this worker."""
        return control_socket(self.folder, self.entry)


def control_socket(folder: Path, entry: int) -> Path:
    """Return the address of the socket on which siblings ask the worker of an entry."""
    return folder / f"{entry}.sock"


def settle(place: WorkerPlace) -> None:
    """Pin this process to its cores, count where others can read, and drain and exit if the supervisor dies."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(place.folder / METRICS)
    values.ValueClass = values.MultiProcessValue()  # which the import has chosen for one process
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != place.supervisor:
        raise SystemExit("adamix-serve: the supervisor of this worker is gone")
    atexit.register(_clean_up, place)
    if place.cores:
        os.sched_setaffinity(0, place.cores)


def _clean_up(place: WorkerPlace) -> None:
    """Remove the private folder where the supervisor did not live to do it."""
    if os.getppid() != place.supervisor:
        shutil.rmtree(place.folder, ignore_errors=True)
