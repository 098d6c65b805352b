"""One job at a time for an output: a lock on the file that a job writes, which ends with its process."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from adamix_train.artifacts.atomic_write import partial_of
from adamix_train.errors import DataError


@contextlib.contextmanager
def only_job_of(out: Path | None) -> Iterator[None]:
    """Keep other jobs from an output until the block ends; None, the standard output, is nobody's.

    Raises:
        DataError: Another job writes it.
    """
    if out is None:
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    try:
        with partial.open("ab") as held:
            try:
                _lock(held)
            except BlockingIOError as error:
                raise DataError(f"another job writes {out}: wait for its end, or write another file") from error
            yield
    except BaseException:
        # An interrupt may come before the lock: what another job holds stays.
        with contextlib.suppress(FileNotFoundError, BlockingIOError), partial.open("rb+") as held:
            _lock(held)
            partial.unlink(missing_ok=True)
        raise


def _lock(file: IO[bytes]) -> None:
    """Lock a file until it is closed; raise a `BlockingIOError` if it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
