import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.runtime import cache_folder
from serve.runtime.cache_folder import cache_root, new_entry, require_private, sweep, trim


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


def test_a_folder_that_others_can_change_is_not_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    require_private(folder)
    for mode in (0o775, 0o757):
        folder.chmod(mode)
        with pytest.raises(PermissionError, match=f"other users can change {folder}: chmod go-w"):
            require_private(folder)
    folder.chmod(0o700)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PermissionError, match="is a link"):
        require_private(tmp_path / "link")
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(cache_folder, "ROOT", -1)
    with pytest.raises(PermissionError, match=f"{folder} belongs to another user"):
        require_private(folder)


WRITING = """
import sys, time
from pathlib import Path
from serve.runtime.cache_folder import new_entry

with new_entry(Path(sys.argv[1])) as entry:
    (entry / "half").write_text("x")
    print("begun", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_began_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITING, str(tmp_path / "entry")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        [partial] = tmp_path.iterdir()
        sweep(tmp_path)
        assert partial.is_dir()
        process.kill()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_entries_are_removed(tmp_path: Path) -> None:
    entries = [tmp_path / name for name in "abcd"]
    for age, entry in enumerate(entries):
        entry.mkdir()
        (entry / "file").write_bytes(bytes(10))
        os.utime(entry, (1000 - age, 1000 - age))
    assert trim(entries, kept=entries[3], max_bytes=40) == []
    assert trim(entries, kept=entries[3], max_bytes=25) == [entries[1], entries[2]]
    assert trim([entries[0], entries[3]], kept=entries[3], max_bytes=0) == [entries[0]]
    assert list(tmp_path.iterdir()) == [entries[3]]
