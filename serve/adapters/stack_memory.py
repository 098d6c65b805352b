"""The memory of a bank's stacks, told before it is allocated: the system hands out more than there is."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from serve.errors import BundleError

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""File with the bytes that a container may use, or `max`."""
FLOAT_BYTES = 4
GIB = 2**30


def check_fits(shapes: Iterable[Sequence[int]], *, slots: int) -> None:
    """Check that stacks of these shapes, of float32, are no larger than all memory.

    Raises:
        BundleError: They are.
    """
    needed, memory = FLOAT_BYTES * sum(map(math.prod, shapes)), total_memory()
    if needed > memory:
        raise BundleError(
            f"there is not enough memory for {slots} slots, which need {needed / GIB:.1f} GiB of {memory / GIB:.1f}: "
            "take fewer"
        )


def total_memory(container: Path = CONTAINER) -> int:
    """Return the bytes of memory of this machine, or of the container where that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(container.read_text("ascii")))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine
