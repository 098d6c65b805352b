import os
from pathlib import Path

import pytest

from serve.errors import BundleError
from serve.workers.adapter_state import AdapterEntry, AdapterStateFile


def test_the_state_is_what_was_written_last(tmp_path: Path) -> None:
    file = AdapterStateFile(tmp_path)
    assert file.read() == {}
    state = {"one": AdapterEntry(folder="a", sha256="0"), "two": AdapterEntry(folder=None)}
    file.write(state)
    assert AdapterStateFile(tmp_path).read() == state


def test_a_copy_is_kept_while_the_state_or_the_one_before_has_it(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    (source / "weights").write_text("w")
    file = AdapterStateFile(tmp_path)
    copies = []
    for _ in range(3):
        copies.append(file.copy(source))
        file.write({"one": AdapterEntry(folder=str(copies[-1]))})
    assert [copy.exists() for copy in copies] == [False, True, True]
    assert (copies[2] / "weights").read_text() == "w"


def test_a_folder_that_cannot_be_copied_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be copied for all workers: No such file or directory"):
        AdapterStateFile(tmp_path).copy(tmp_path / "nowhere")


def test_a_file_that_cannot_be_copied_is_named_in_a_sentence(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    os.mkfifo(source / "weights")
    with pytest.raises(BundleError) as told:
        AdapterStateFile(tmp_path).copy(source)
    assert str(told.value) == f"{source} cannot be copied for all workers: weights: it is no file"
    (source / "weights").unlink()
    (source / "weights").symlink_to("gone")
    with pytest.raises(BundleError) as told:
        AdapterStateFile(tmp_path).copy(source)
    assert str(told.value) == f"{source} cannot be copied for all workers: weights: No such file or directory"


def test_only_a_process_that_dies_leaves_the_mark(tmp_path: Path) -> None:
    file = AdapterStateFile(tmp_path)
    with file.unfinished():
        assert file.is_unfinished
    assert not file.is_unfinished
    pid = os.fork()
    if not pid:
        with file.locked(), file.unfinished():
            os._exit(1)
    os.waitpid(pid, 0)
    assert file.is_unfinished
    with file.locked():  # which the dead process holds no more
        pass
