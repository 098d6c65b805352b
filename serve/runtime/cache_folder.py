"""The project's cache: its place on disk, and entries that are complete or absent."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    with tempfile.TemporaryDirectory(prefix=".partial.", dir=target.parent, ignore_cleanup_errors=True) as partial:
        entry = Path(partial) / target.name
        entry.mkdir()
        yield entry
        try:
            entry.rename(target)
        except OSError:
            if not target.is_dir():
                raise
