"""A disk that is full, and a command that is killed: a bundle is whole or absent."""

import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from adamix_export.errors import ExportError
from adamix_export.pipeline.disk_space import OVERHEAD_BYTES, bundle_size
from tests.adamix_export.conftest import Export

pytestmark = pytest.mark.slow

EXPORT = [sys.executable, "-m", "adamix_export.cli"]

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("shape", ["merged", "bank", "adapter"])
def test_too_little_disk_is_said_before_anything_is_written(
    shape: str, export: Export, houlsby: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 12_000_000))
    with pytest.raises(ExportError, match=r"will take about 16\.1 MB, and .* has 12\.0 MB left: make room"):
        export(shape, houlsby, fresh=True)
    assert list(tmp_path.iterdir()) == []


def test_the_room_that_is_asked_for_is_enough(export: Export, houlsby: Path, tiny_base: Path, tmp_path: Path) -> None:
    export("bank", houlsby)
    taken = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    weights = (tmp_path / "out" / "model.onnx.data").stat().st_size
    assert taken < bundle_size(tiny_base)
    assert bundle_size(tiny_base) - OVERHEAD_BYTES == pytest.approx(weights, rel=0.1)


@pytest.mark.slow
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
