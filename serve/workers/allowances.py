"""Allowances of API keys that all workers of a server draw from: one level for each, in a mapped file."""

import contextlib
import fcntl
import mmap
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from serve.api_keys import Allowance, ApiKey, ApiKeys

LEVEL = struct.Struct("dd")
"""The amount that is left, and the monotonic time at which it was."""
TRIES = 200
"""Tries to get the lock, a few microseconds each. A worker that is stopped while it holds it must not stop the others:
they go on without, and may count a request too few."""


class SharedAllowance(Allowance):
    """An amount a minute of which all workers take."""

    def __init__(self, per_minute: int, file: Path) -> None:
        """Share the level in a file, which is full if the file is new."""
        super().__init__(per_minute)
        self.turn = threading.Lock()
        self.file = file.open("a+b")
        with self._locked():
            if not self.file.seek(0, 2):
                self.file.write(LEVEL.pack(float(per_minute), time.monotonic()))
                self.file.flush()
        self.level = mmap.mmap(self.file.fileno(), LEVEL.size)

    def take(self, amount: float, unit: str) -> None:
        """Take an amount, all or nothing; see `Allowance`."""
        with self.turn, self._locked():
            self.left, self.since = LEVEL.unpack(self.level[:])
            try:
                super().take(amount, unit)
            finally:
                self.level[:] = LEVEL.pack(self.left, self.since)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        try:
            yield
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)


class SharedApiKeys(ApiKeys):
    """The keys of a server whose workers share their allowances."""

    def __init__(self, keys: dict[str, ApiKey], folder: Path) -> None:
        """Share the allowances of keys in files of a folder."""
        self.folder = folder
        super().__init__(self._shared(keys))

    def replace(self, keys: dict[str, ApiKey]) -> None:
        """Take over other keys; one whose allowances are the same has as much left of them as before."""
        super().replace(self._shared(keys))

    def _shared(self, keys: dict[str, ApiKey]) -> dict[str, ApiKey]:
        for key in keys.values():
            for kind in ("requests", "tokens"):
                allowance: Allowance | None = getattr(key, kind)
                if allowance is not None:
                    file = self.folder / f"{key.sha256}.{kind}.{allowance.per_minute}"
                    setattr(key, kind, SharedAllowance(allowance.per_minute, file))
        return keys
