"""The settings that the workers of a server run with, kept in memory for one that is started again."""

import contextlib
import fcntl
import hashlib
import os
import pickle
from collections.abc import Iterator

from serve.served_settings import ServedSettings

DIGEST = hashlib.sha256().digest_size


class KeptSettings:
    """A piece of memory that forked processes share; it holds the settings of the worker that was ready last."""

    def __init__(self) -> None:
        """Begin with none."""
        self.descriptor = os.memfd_create("adamix-settings")

    def write(self, settings: ServedSettings) -> None:
        """Replace what is kept."""
        content = pickle.dumps(settings)
        with self._locked():
            os.pwrite(self.descriptor, hashlib.sha256(content).digest() + content, 0)
            os.ftruncate(self.descriptor, DIGEST + len(content))

    def read(self) -> ServedSettings | None:
        """Return what is kept; None if there is nothing, or a worker died while it wrote."""
        with self._locked():
            found = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        content = found[DIGEST:]
        if hashlib.sha256(content).digest() != found[:DIGEST]:
            return None
        kept: ServedSettings = pickle.loads(content)
        return kept

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out, by a lock of the process: the descriptor is the same in all."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
