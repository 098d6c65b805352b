import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu.packing import PackingError, main, pack, run

JOIN = "cat it.tar.xz.part-* > it.tar.xz && sha256sum -c it.tar.xz.sha256 && mkdir there && tar -xJf it.tar.xz -C there"


def test_parts_are_joined_to_what_was_packed(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "here" / "a").mkdir(parents=True)
    for name in ("a/one", "a/two", "three"):
        (tmp_path / "here" / name).write_bytes(weights)
    parts = pack(tmp_path / "here", tmp_path / "out" / "it.tar.xz", part="100K")
    assert [part.name for part in parts] == [f"it.tar.xz.part-a{letter}" for letter in "abc"]
    assert sum(part.stat().st_size for part in parts) < 1.05 * len(weights)  # the same weights are stored once
    subprocess.run(JOIN, shell=True, check=True, cwd=tmp_path / "out", stdout=subprocess.DEVNULL)
    for name in ("a/one", "a/two", "three"):
        assert (tmp_path / "out" / "there" / name).read_bytes() == weights


def test_old_parts_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "one").write_text("1")
    (tmp_path / "it.tar.xz.part-zz").write_text("old")
    assert [part.name for part in pack(tmp_path / "here", tmp_path / "it.tar.xz")] == ["it.tar.xz.part-aa"]
    assert not (tmp_path / "it.tar.xz.part-zz").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is empty or missing"):
        main([str(tmp_path / "none"), str(tmp_path / "it.tar.xz")])


def test_the_last_line_of_a_program_that_fails_is_told() -> None:
    with pytest.raises(PackingError, match=r"bash -c .* failed: no room"):
        run(["bash", "-c", "echo no room >&2; exit 3"])
