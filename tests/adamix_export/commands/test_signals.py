"""A command that is stopped: a bundle is whole or absent."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Export

EXPORT = [sys.executable, "-m", "adamix_export.cli"]


def stopped_at(stage: str, number: int, *arguments: str, after: float = 0.0) -> subprocess.Popen:
    """Run the command and send it a signal, `after` seconds after it says that it has come to a stage."""
    process = subprocess.Popen([*EXPORT, *arguments], stderr=subprocess.PIPE, text=True, bufsize=0)
    said = ""
    while stage not in said:
        assert process.poll() is None, said
        said += process.stderr.read(1)
    time.sleep(after)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process


@pytest.mark.slow
def test_a_kill_leaves_no_bundle_and_the_old_one_untouched(
    houlsby: Path, lora: Path, export: Export, tmp_path: Path
) -> None:
    export("merged", f"old={lora}")
    before = open_bundle(tmp_path / "out").manifest
    killed = stopped_at("tracing", signal.SIGKILL, str(houlsby), str(tmp_path / "out"), "--force", after=0.2)
    assert killed.returncode == -signal.SIGKILL
    assert open_bundle(tmp_path / "out").manifest == before


@pytest.mark.slow
def test_a_kill_at_the_end_leaves_a_whole_bundle_or_none(houlsby: Path, tmp_path: Path) -> None:
    killed = stopped_at("comparing", signal.SIGKILL, str(houlsby), str(tmp_path / "new"))
    assert killed.returncode == -signal.SIGKILL
    if (tmp_path / "new").exists():
        open_bundle(tmp_path / "new")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGTERM, 0.2), (signal.SIGINT, 0.2), pytest.param(signal.SIGTERM, 0.5, marks=pytest.mark.soak)],
)
def test_a_command_that_is_told_to_stop_leaves_nothing(
    number: int, after: float, houlsby: Path, tmp_path: Path
) -> None:
    """Tracing catches whatever is raised in some of its moments."""
    stopped = stopped_at("tracing", number, str(houlsby), str(tmp_path / "out"), after=after)
    assert stopped.returncode == 1
    assert list(tmp_path.iterdir()) == []
