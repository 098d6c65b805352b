"""The project's cache: its place on disk, and entries that are complete or absent and that nobody else can change."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial."
"""Beginning of the names of entries that are being written."""
ROOT = 0
"""The user who can change every file whatever it belongs to."""
FOREIGN_WRITES = stat.S_IWGRP | stat.S_IWOTH


def cache_root() -> Path:
    """Return $ADAMIX_CACHE, or else $XDG_CACHE_HOME/adamix, or else ~/.cache/adamix."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adamix"
    return Path(os.environ.get("ADAMIX_CACHE") or default)


@contextmanager
def new_entry(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that is renamed to it on success and removed on failure.

    If another process has created `target` meanwhile, its folder is kept and this one is removed.

    Raises:
        OSError: The cache cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.parent, ignore_cleanup_errors=True) as partial,
        _locked(Path(partial)),
    ):
        entry = Path(partial) / target.name
        entry.mkdir()
        yield entry
        try:
            entry.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def require_private(path: Path) -> None:
    """Check that nobody but this user and root can change a file or folder.

    Raises:
        PermissionError: Somebody can, or it is a link.
        OSError: It is not there.
    """
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        raise PermissionError(f"{path} is a link, which may lead elsewhere later")
    if info.st_uid not in (os.geteuid(), ROOT):
        raise PermissionError(f"{path} belongs to another user, who can change it: give a folder of your own")
    if info.st_mode & FOREIGN_WRITES:
        raise PermissionError(f"other users can change {path}: chmod go-w it, and remove what you did not put there")


def sweep(folder: Path) -> None:
    """Remove entries that a process began to write and did not finish, since it was killed."""
    for partial in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError), _locked(partial, wait=False):
            shutil.rmtree(partial)


def trim(entries: Iterable[Path], *, kept: Path, max_bytes: int) -> list[Path]:
    """Remove the least recently used entries, until the others have `max_bytes` at most; return those removed.

    Args:
        entries: Folders whose times of modification are those of their last use.
        kept: An entry that stays.
        max_bytes: Bytes of all files together.
    """
    total, removed = 0, []
    others = [(entry.lstat().st_mtime_ns, entry) for entry in entries if entry != kept]
    for entry in (kept, *(entry for _, entry in sorted(others, reverse=True))):
        total += sum(file.lstat().st_size for file in entry.iterdir())
        if total > max_bytes and entry != kept:
            shutil.rmtree(entry)
            removed.append(entry)
    return removed


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock, which ends with this process at the latest.

    A disk without locks has none to hold: there a folder counts as one that is being written, and stays.

    Raises:
        OSError: Another process holds it, and `wait` is False; or there are no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(*([OSError] if wait else [])):
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
