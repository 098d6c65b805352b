"""The files of a bundle's folder: each is in the manifest, or is one that nothing reads."""

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from serve.bundle.manifest import UNHASHED
from serve.errors import BundleError, shortened

UNREAD = (*UNHASHED, ".*", "*.md", "LICENSE*", "NOTICE*")
"""Names beside the manifest that it need not list: itself, and what people, git and the Hub's clients add."""
MAX_QUOTED = 120


def check_listing(folder: Path, listed: Collection[str]) -> None:
    """Raise a BundleError for a file that a bundle's manifest does not list, so that no hash covers it.

    Args:
        folder: The bundle.
        listed: Paths of the files that the manifest lists.
    """
    for name in _files(folder):
        if name not in listed:
            raise BundleError(
                f"{folder} has the file {shortened(name, MAX_QUOTED)!r}, which its manifest does not list: remove it, "
                "or export again"
            )


def _files(folder: Path) -> Iterator[str]:
    """Yield the paths of all files, and of links to folders, that may not stay unlisted."""
    for path, folders, files in os.walk(folder, onerror=_refuse):
        within = Path(path).relative_to(folder)
        if path == str(folder):
            folders[:] = [name for name in folders if not _unread(name)]
            files = [name for name in files if not _unread(name)]
        links = [name for name in folders if (Path(path) / name).is_symlink()]
        yield from (str(within / name) for name in (*files, *links))


def _unread(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in UNREAD)


def _refuse(error: OSError) -> None:
    raise BundleError(f"{error.filename} cannot be read: {error.strerror}") from error
