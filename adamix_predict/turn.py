"""One job at a time for an output: a lock on the file that a job writes, which ends with its process."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

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
    with partial.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another job writes {out}: wait for its end, or write another file") from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
