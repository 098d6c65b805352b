"""The adapters that have been loaded and unloaded since the start, the same for all workers of a server.

The state is a file in the private folder: a worker that starts brings its engine to it before it takes requests.
Adapters lie there as copies, so that a worker that is restarted has the weights that its siblings have.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from serve.errors import BundleError
from serve.workers.place import INTENT, LOCK, SNAPSHOTS, STATE


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """The adapter that a name has, or that it has none."""

    folder: str | None
    """Folder of the adapter; None if it was unloaded."""
    sha256: str = ""


State = Mapping[str, AdapterEntry]
"""Changes since the start by name; a name that is not there is as the worker's own start left it."""


class AdapterStateFile:
    """The file of the state, with copies of the adapters beside it."""

    def __init__(self, folder: Path) -> None:
        """Use the private folder of a server's workers."""
        self.folder = folder
        (folder / SNAPSHOTS).mkdir(exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other workers from changes; the lock of a process that dies is free."""
        with (self.folder / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, AdapterEntry]:
        """Return the state."""
        try:
            return parse_state((self.folder / STATE).read_text("utf-8"))
        except FileNotFoundError:
            return {}

    def write(self, state: State) -> None:
        """Replace the state, and remove copies that neither it nor the one before has."""
        kept = {entry.folder for one in (self.read(), state) for entry in one.values()}
        new = self.folder / f"{STATE}.new"
        new.write_text(format_state(state), "utf-8")
        os.replace(new, self.folder / STATE)
        for copy in (self.folder / SNAPSHOTS).iterdir():
            if str(copy) not in kept:
                shutil.rmtree(copy, ignore_errors=True)

    def copy(self, folder: Path) -> Path:
        """Return a copy of an adapter's folder.

        Raises:
            BundleError: It cannot be read or copied.
        """
        numbers = [int(one.name) for one in (self.folder / SNAPSHOTS).iterdir()]
        target = self.folder / SNAPSHOTS / str(max(numbers, default=0) + 1)
        try:
            shutil.copytree(folder, target, copy_function=_copy_file)
        except (OSError, shutil.Error) as error:
            raise BundleError(f"{folder} cannot be copied for all workers: {_reason(error)}") from error
        return target

    @contextlib.contextmanager
    def unfinished(self) -> Iterator[None]:
        """Mark that workers may differ from the state; only a process that dies within leaves the mark."""
        mark = self.folder / INTENT
        mark.touch()
        yield
        mark.unlink()

    @property
    def is_unfinished(self) -> bool:
        """True if a worker died while it changed the adapters of the others."""
        return (self.folder / INTENT).exists()


def format_state(state: State) -> str:
    """Return a state as JSON."""
    return json.dumps({name: asdict(entry) for name, entry in state.items()})


def parse_state(text: str) -> dict[str, AdapterEntry]:
    """Return the state in a text of JSON."""
    return {name: AdapterEntry(**entry) for name, entry in json.loads(text).items()}


def _copy_file(source: str, target: str) -> None:
    """Copy a file.

    Raises:
        OSError: It cannot be read, or is something else, such as a named pipe.
    """
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise OSError("it is no file")
    shutil.copy2(source, target)


def _reason(error: OSError) -> str:
    """Return why a folder cannot be copied; of several files that cannot, the first one's reason."""
    if error.args and isinstance(error.args[0], list):  # as copytree collects them: source, target, message
        source, _, message = error.args[0][0]
        reason = re.sub(r"^\[Errno \d+\] |: '.*$", "", str(message), flags=re.DOTALL)
        return f"{Path(source).name}: {reason}"
    return error.strerror or str(error)
