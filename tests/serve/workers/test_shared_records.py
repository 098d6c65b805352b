import multiprocessing
import threading
from pathlib import Path

import pytest

from serve.adapter_loading import FolderRecord, Source
from serve.workers.shared_records import SharedRecords, SharedTurn

RECORD = FolderRecord(
    path="team/mood",
    source=Source.LOOKUP,
    error="it is damaged: “mood”",
    fingerprint=(("adapter.json", 1, 2, 3), ("adapter.safetensors", 4, 5, 6)),
    adapter="mood",
    is_blocked=True,
)


def records(folder: Path) -> SharedRecords:
    """Records as one worker sees them."""
    return SharedRecords(folder / "records.json", SharedTurn(folder / "turn"))


def test_what_one_worker_writes_the_others_read_and_so_does_one_that_starts_later(tmp_path: Path) -> None:
    one, two = records(tmp_path), records(tmp_path)
    assert (dict(one), two.get("team/mood"), list(two.values())) == ({}, None, [])
    one["team/mood"] = RECORD
    two["other"] = FolderRecord(path="other", source=Source.CLIENT, name="other")
    assert dict(one) == dict(two) == dict(records(tmp_path)) == {"team/mood": RECORD, "other": one["other"]}
    assert one["team/mood"].source is Source.LOOKUP
    assert one.pop("team/mood") == RECORD
    assert (list(two), two.pop("team/mood", None), len(two)) == (["other"], None, 1)
    with pytest.raises(KeyError):
        del two["team/mood"]


def test_changes_of_several_threads_and_workers_are_all_kept(tmp_path: Path) -> None:
    def change(worker: SharedRecords, number: int) -> None:
        for index in range(20):
            path = f"{number}-{index}"
            worker[path] = FolderRecord(path=path, source=Source.WATCH)

    workers = [records(tmp_path), records(tmp_path)]
    threads = [threading.Thread(target=change, args=(workers[number % 2], number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(workers[0]) == len(workers[1]) == 80


def test_where_they_cannot_be_written_a_worker_goes_on_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = records(tmp_path), records(tmp_path)
    one["first"] = FolderRecord(path="first", source=Source.WATCH)

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        one["second"] = FolderRecord(path="second", source=Source.WATCH)
    assert (list(one), list(two)) == (["first", "second"], ["first"])
    assert "No space left on device" in caplog.text
    one["third"] = FolderRecord(path="third", source=Source.WATCH)
    assert list(one) == list(two) == ["first", "second", "third"]


def _hold(file: Path, is_held: "multiprocessing.synchronize.Event") -> None:
    with SharedTurn(file):
        is_held.set()
        threading.Event().wait()


def test_a_turn_is_taken_again_by_its_thread_and_free_when_its_process_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "turn", is_held))
    holder.start()
    assert is_held.wait(60)
    taken = threading.Event()

    def take() -> None:
        turn = SharedTurn(tmp_path / "turn")
        with turn, turn:
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.2)
    holder.kill()
    holder.join()
    assert taken.wait(10)
    thread.join()
