"""Memory between the stages of an export."""

import ctypes
import gc


def release_memory() -> None:
    """Free what only reference cycles hold, as traced models do, and give free memory back to the system.

    glibc keeps what sessions and their weights took, which the next stage then adds to.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
