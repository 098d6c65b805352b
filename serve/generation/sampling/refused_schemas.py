"""Memory of refused schemas and grammars, and the return of the memory that those that failed took."""

import ctypes
import hashlib
import threading
import time
from collections import OrderedDict
from contextlib import suppress

from serve.errors import InputError

MAX_REFUSED = 256
"""Refusals that are remembered."""
REMEMBERED_SECONDS = 600.0
"""Time after which a schema is tried again: a machine that was busy or short of memory may have been at fault."""


class RefusedSchemas:
    """The latest refusals, by the hash of what was refused."""

    def __init__(self, most: int = MAX_REFUSED, seconds: float = REMEMBERED_SECONDS) -> None:
        """Remember at most so many refusals, each for so many seconds."""
        self.most, self.seconds = most, seconds
        self.refusals: OrderedDict[bytes, tuple[float, str, str | None]] = OrderedDict()
        """When a refusal ends, its message and the field at fault; the oldest first."""
        self.lock = threading.Lock()

    def add(self, schema: str, eos_token_ids: tuple[int, ...], error: InputError) -> None:
        """Remember the refusal of a serialized schema."""
        key = _hash(schema, eos_token_ids)
        with self.lock:
            self.refusals[key] = (time.monotonic() + self.seconds, str(error), error.field)
            self.refusals.move_to_end(key)
            if len(self.refusals) > self.most:
                self.refusals.popitem(last=False)

    def check(self, schema: str, eos_token_ids: tuple[int, ...]) -> None:
        """Raise the InputError with which a schema was refused lately, if it was."""
        key = _hash(schema, eos_token_ids)
        with self.lock:
            if (refusal := self.refusals.get(key)) is None:
                return
            end, message, field = refusal
            if time.monotonic() >= end:
                del self.refusals[key]
                return
        raise InputError(message, field)


def return_memory() -> None:
    """Return freed memory to the system where its C library keeps it, as glibc does in pieces between others."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _hash(schema: str, eos_token_ids: tuple[int, ...]) -> bytes:
    return hashlib.sha256(f"{eos_token_ids} {schema}".encode()).digest()
