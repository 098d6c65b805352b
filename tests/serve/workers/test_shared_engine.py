"""Two workers in one process, each with a real engine, a status board and a control socket."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.engine import ModelInfo
from serve.errors import BundleError, UnknownAdapter
from serve.workers.adapter_state import AdapterStateFile
from serve.workers.board import StatusBoard, WorkerState
from serve.workers.control import ControlServer
from serve.workers.place import control_socket
from serve.workers.shared_engine import APPLY, SharedEngine
from tests.serve.conftest import Reference, write_adapter

ENTRIES = 3


class Stubborn(AsyncClassifier):
    """An engine that takes no adapter while it `refuses`."""

    refuses = False

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        if self.refuses:
            raise BundleError("no memory")
        return super().load(folder, name=name, replace=replace)


@dataclass
class Workers:
    """Workers that share a folder."""

    bundle: Path
    folder: Path
    board: StatusBoard
    controls: list[ControlServer]
    processes: list["subprocess.Popen[bytes]"]

    def start(self, entry: int) -> SharedEngine:
        """Return the engine of a worker that has joined the others, with a process that may be killed in its place."""
        process = subprocess.Popen(["sleep", "60"])
        self.processes.append(process)
        self.board.begin(entry, number=entry)
        self.board.set(entry, "pid", process.pid)
        engine = Stubborn(Classifier(self.bundle, provider="cpu", threads=1, slots=6))
        folders = {name: self.bundle / "adapters" / name for name in ("tone", "intent")}
        shared = SharedEngine(engine, folders, AdapterStateFile(self.folder), self.board, entry)
        shared.join(lambda: self.controls.append(ControlServer(control_socket(self.folder, entry))))
        self.controls[-1].start({APPLY: shared.answer})
        self.board.set(entry, "state", WorkerState.READY)
        return shared


@pytest.fixture
def workers(bundle_folder: Path, tmp_path: Path) -> Iterator[Workers]:
    (folder := tmp_path / "private").mkdir()
    made = Workers(bundle_folder, folder, StatusBoard(ENTRIES), [], [])
    yield made
    for control in made.controls:
        control.shutdown()
        control.server_close()
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.fixture
def grade(tmp_path: Path, reference: Reference) -> Path:
    write_adapter(tmp_path / "grade", reference, "grade")
    return tmp_path / "grade"


def served(engine: SharedEngine) -> dict[str, str]:
    return {model.name: model.sha256 for model in engine.models()}


def test_an_adapter_is_loaded_and_unloaded_on_both(workers: Workers, grade: Path) -> None:
    one, two = workers.start(0), workers.start(1)
    before = served(one)
    info = one.load(grade, name="grade")
    assert served(one) == served(two) == {**before, "grade": info.sha256}
    two.unload("grade")
    assert served(one) == served(two) == before
    with pytest.raises(UnknownAdapter):
        one.unload("grade")


def test_one_that_is_refused_changes_nothing(workers: Workers, tmp_path: Path, reference: Reference) -> None:
    one, two = workers.start(0), workers.start(1)
    before = served(one)
    write_adapter(tmp_path / "wrong", reference, "grade", canary_logits=[[9.0], [9.0]])
    with pytest.raises(BundleError) as refused:
        one.load(tmp_path / "wrong")
    assert str(workers.folder) not in str(refused.value)
    assert served(one) == served(two) == before


def test_where_the_other_refuses_neither_has_it(workers: Workers, grade: Path) -> None:
    one, two = workers.start(0), workers.start(1)
    before = served(one)
    two.engine.refuses = True
    with pytest.raises(BundleError, match="a worker refuses, so that none has changed: no memory"):
        one.load(grade)
    assert served(one) == served(two) == before
    two.engine.refuses = False
    assert two.load(grade).name == "grade"
    assert served(one) == served(two)


def test_where_the_other_refuses_a_replacement_both_have_what_they_had(
    workers: Workers, tmp_path: Path, reference: Reference
) -> None:
    one, two = workers.start(0), workers.start(1)
    before = served(one)
    changed = Reference(reference.embeddings, {**reference.adapters, "tone": _doubled(reference.adapters["tone"])})
    write_adapter(tmp_path / "tone", changed, "tone")
    two.engine.refuses = True
    with pytest.raises(BundleError, match="no memory"):
        one.load(tmp_path / "tone", replace=True)
    assert served(one) == served(two) == before
    two.engine.refuses = False
    info = one.load(tmp_path / "tone", replace=True)
    assert served(one)["tone"] == served(two)["tone"] == info.sha256 != before["tone"]


def test_one_that_starts_later_has_the_weights_of_the_others(workers: Workers, grade: Path) -> None:
    one = workers.start(0)
    one.load(grade)
    one.unload("intent")
    shutil.rmtree(grade)
    assert served(workers.start(1)) == served(one)


def test_one_that_does_not_answer_is_restarted_and_the_change_holds(workers: Workers, grade: Path) -> None:
    one = workers.start(0)
    workers.start(1)
    workers.controls[1].shutdown()
    workers.controls[1].server_close()
    one.load(grade)
    assert workers.processes[1].wait(10) == -9
    workers.board.end(1)
    assert served(workers.start(2)) == served(one)


def test_what_a_dead_worker_left_half_done_is_undone_by_the_next_change(workers: Workers, grade: Path) -> None:
    one, two = workers.start(0), workers.start(1)
    before = served(one)
    with one.file.locked():  # a third worker told the second one of a change, and died
        (workers.folder / "unfinished").touch()
        two.answer({"state": '{"intent": {"folder": null, "sha256": ""}}', "back": False})
    assert served(two) != before
    info = one.load(grade)
    assert served(one) == served(two) == {**before, "grade": info.sha256}


def test_changes_wait_for_each_other(workers: Workers, grade: Path) -> None:
    """Both load and unload for a while, and agree at the end."""
    one, two = workers.start(0), workers.start(1)

    def change(engine: SharedEngine) -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            engine.load(grade, name="grade", replace=True)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(change, (one, two)))
    assert served(one) == served(two)


def _doubled(tensors: dict) -> dict:  # type: ignore[type-arg]
    return {name: 2 * tensor for name, tensor in tensors.items()}
