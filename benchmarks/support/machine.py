"""The machine and the versions of a measurement; nothing here names a host, a user or a path."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
UNKNOWN = "unknown"


def describe_machine() -> dict[str, object]:
    """Return processor model, cores that this process may use, memory in GiB, and platform."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip(),
    }


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages by name."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _processor() -> str:
    """Return the processor's model as the kernel names it, which platform.processor() often does not know."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or UNKNOWN
