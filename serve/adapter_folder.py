"""Folders of standalone adapters below the folder of --adapter-dir, as files: where they are, and how they change."""

import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InputError, shortened

FILES = ("adapter.json", "adapter.safetensors")
"""Files of an adapter: its card, and its weights."""
MAX_CARD = 16_000_000
"""Bytes of a card that are read to learn its name."""
MAX_PATH = 128
"""Characters of a path that an error quotes."""
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:[^\s/:,;'\"]+/)+(?=[^\s/:,;'\"])")
"""Folders at the beginning of an absolute path."""
Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, time of change in ns, size and inode of each file that is there."""


@dataclass(frozen=True)
class Named:
    """Name and hash in a card, before anything of it is checked."""

    name: str
    sha256: str


def fingerprint(folder: Path) -> Fingerprint:
    """Return a value that changes with the files of an adapter; empty if none of them is there."""
    found = []
    for name in FILES:
        try:
            facts = (folder / name).stat()
        except (OSError, ValueError):
            continue
        found.append((name, facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)


def has_card(found: Fingerprint) -> bool:
    """Return True for the fingerprint of a folder with an adapter's card."""
    return any(name == FILES[0] for name, *_ in found)


def adapter_folders(root: Path) -> dict[str, Fingerprint]:
    """Return the folders directly below `root` that have an adapter's card, by name.

    Raises:
        OSError: The folder cannot be listed.
    """
    names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    found = {name: fingerprint(root / name) for name in names}
    return {name: one for name, one in found.items() if has_card(one)}


def named_in_card(folder: Path) -> Named | None:
    """Return the name and the hash in a card; None if it cannot be read, which loading it will tell."""
    try:
        content = json.loads(_read_file(folder / FILES[0]))
        name, sha256 = content["name"], content["sha256"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Named(name, sha256) if isinstance(name, str) and isinstance(sha256, str) else None


def folder_below(root: Path, path: str) -> Path:
    """Return the folder that a client names, links resolved.

    Raises:
        InputError: It is not below `root`, or not there.
    """
    name = shortened(path, MAX_PATH)
    try:
        root = root.resolve()
        folder = (root / path).resolve()
        inside, there = folder.is_relative_to(root) and folder != root, folder.is_dir()
        files = [file for file in folder.iterdir() if not _is_below(root, file)] if inside and there else []
    except OSError as error:  # such as a name that is too long
        raise InputError(f"there is no adapter folder {name!r}: {error.strerror}", "folder") from error
    except (ValueError, RuntimeError) as error:  # a null character, a loop of links
        raise InputError(
            f"there is no adapter folder {name!r}: it is no path that can be followed", "folder"
        ) from error
    if not inside:
        raise InputError(f"{name!r} is not below the folder that adapters are loaded from (--adapter-dir)", "folder")
    if not there:
        raise InputError(f"there is no adapter folder {name!r} below --adapter-dir", "folder")
    if files:
        raise InputError(f"{files[0].name} in {name!r} is a link to a file that is not below --adapter-dir", "folder")
    return folder


def without_paths(message: str, folder: Path | None = None, path: str = "") -> str:
    """Return an error's message with a client's path in the place of the server's, and no other absolute path."""
    if folder is not None:
        message = message.replace(str(folder), shortened(path.rstrip("/"), MAX_PATH))
    return ABSOLUTE.sub("", message)


def _read_file(file: Path) -> bytes:
    """Return the content of a file, without waiting for one that is a pipe.

    Raises:
        OSError: It cannot be read, or is something else.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(MAX_CARD)
    finally:
        os.close(descriptor)


def _is_below(root: Path, file: Path) -> bool:
    """Return True if a file, links resolved, is below `root`; a loop of links is nowhere."""
    try:
        return file.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False
