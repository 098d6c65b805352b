import os
import platform
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.support import machine
from benchmarks.support.machine import describe_machine, usable_cores, versions_of


def test_the_memory_is_all_that_the_kernel_has_and_the_platform_has_no_name_of_a_host() -> None:
    described = describe_machine()
    (total,) = re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert described["memory_gib"] == pytest.approx(int(total) / 2**20, abs=0.06)
    assert str(described["platform"]).split()[:2] == [os.uname().sysname, os.uname().machine]
    assert platform.node() not in str(described["platform"]).split()


def test_the_processor_is_named_as_the_kernel_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert describe_machine()["processor"] == "unknown"
    file.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast(R) CPU: 2 GHz\n\nmodel name\t: another\n")
    assert describe_machine()["processor"] == "Fast(R) CPU: 2 GHz"
    file.write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    monkeypatch.setattr(platform, "processor", lambda: "aarch64")
    assert describe_machine()["processor"] == "aarch64"


def test_only_cores_that_the_process_may_use_count() -> None:
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert usable_cores() == describe_machine()["cores"] == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert usable_cores() == len(cores)


def test_versions_are_those_of_python_and_of_the_packages() -> None:
    assert versions_of(["numpy"]) == {"python": platform.python_version(), "numpy": np.__version__}
