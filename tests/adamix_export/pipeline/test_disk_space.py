"""A disk that is full, and a command that is killed: a bundle is whole or absent."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from adamix_export.errors import ExportError
from adamix_export.pipeline.disk_space import BESIDES, bundle_size
from serve.bundle.reader import open_bundle
from tests.adamix_export.conftest import Export

EXPORT = [sys.executable, "-m", "adamix_export.cli"]
Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("shape", ["merged", "bank", "adapter"])
def test_too_little_disk_is_said_before_anything_is_written(
    shape: str, export: Export, houlsby: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 12_000_000))
    with pytest.raises(ExportError, match=r"will take about 16\.1 MB, and .* has 12\.0 MB left: make room"):
        export(shape, houlsby)
    assert list(tmp_path.iterdir()) == []


def test_the_room_that_is_asked_for_is_enough(export: Export, houlsby: Path, tiny_base: Path, tmp_path: Path) -> None:
    export("bank", houlsby)
    taken = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    weights = (tmp_path / "out" / "model.onnx.data").stat().st_size
    assert taken < bundle_size(tiny_base)
    assert bundle_size(tiny_base) - BESIDES == pytest.approx(weights, rel=0.1)


@pytest.mark.parametrize(("limit", "stage"), [(1_000, "collapsing"), (6_000, "collapsing"), (50_000, "tracing")])
def test_a_disk_that_fills_up_leaves_nothing(limit: int, stage: str, lora: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the tokenizer, an adapter, the graph's weights do not fit."""
    (tmp_path / "disk").mkdir()
    result = subprocess.run(
        [*EXPORT, str(lora), str(tmp_path / "disk" / "out")],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert stage in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"adamix-export: {tmp_path / 'disk' / 'out'} could not be written (")
    assert last.endswith("left there): make room and try again")
    assert list((tmp_path / "disk").iterdir()) == []


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


def test_a_kill_leaves_no_bundle_and_the_old_one_untouched(
    houlsby: Path, lora: Path, export: Export, tmp_path: Path
) -> None:
    export("merged", f"old={lora}")
    before = open_bundle(tmp_path / "out").manifest
    killed = stopped_at("tracing", signal.SIGKILL, str(houlsby), str(tmp_path / "out"), "--force", after=0.2)
    assert killed.returncode == -signal.SIGKILL
    assert open_bundle(tmp_path / "out").manifest == before


def test_a_kill_at_the_end_leaves_a_whole_bundle_or_none(houlsby: Path, tmp_path: Path) -> None:
    killed = stopped_at("comparing", signal.SIGKILL, str(houlsby), str(tmp_path / "new"))
    assert killed.returncode == -signal.SIGKILL
    if (tmp_path / "new").exists():
        open_bundle(tmp_path / "new")


@pytest.mark.parametrize(("number", "after"), [(signal.SIGTERM, 0.2), (signal.SIGINT, 0.2), (signal.SIGTERM, 0.5)])
def test_a_command_that_is_told_to_stop_leaves_nothing(
    number: int, after: float, houlsby: Path, tmp_path: Path
) -> None:
    """Tracing catches whatever is raised in some of its moments."""
    stopped = stopped_at("tracing", number, str(houlsby), str(tmp_path / "out"), after=after)
    assert stopped.returncode == 1
    assert list(tmp_path.iterdir()) == []
