from pathlib import Path

import pytest

from serve.runtime.cache_folder import cache_root, new_entry


def test_the_default_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAMIX_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("ADAMIX_CACHE")
    assert cache_root() == tmp_path / "adamix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "adamix"


def test_an_entry_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "entry"
    with new_entry(target) as folder:
        (folder / "file").write_text("content")
        assert not target.exists()
    assert (target / "file").read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_entry_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_entry(tmp_path / "entry") as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_entry_of_a_faster_process_is_kept(tmp_path: Path) -> None:
    with new_entry(tmp_path / "entry") as folder:
        (folder / "late").write_text("")
        (tmp_path / "entry").mkdir()
        (tmp_path / "entry" / "early").write_text("")
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["entry", "entry/early"]


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(OSError), new_entry(tmp_path / "cache" / "entry"):
        pass
