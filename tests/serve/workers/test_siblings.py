from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.lookup_uses import LookupUses
from serve.workers.board import StatusBoard, WorkerState
from serve.workers.control import ControlServer
from serve.workers.place import control_socket
from serve.workers.siblings import SiblingWorkers, answers_of

ENTRIES = 4


@pytest.fixture
def uses(tmp_path: Path) -> Iterator[list[LookupUses]]:
    """Uses of three workers, of which the third one has not been started yet; the fourth one is gone."""
    found, controls = [LookupUses() for _ in range(3)], []
    for entry, one in enumerate(found):
        controls.append(ControlServer(control_socket(tmp_path, entry)))
        controls[-1].start(answers_of(one))
    yield found
    for control in controls:
        control.shutdown()
        control.server_close()


@pytest.fixture
def siblings(tmp_path: Path) -> SiblingWorkers:
    """The siblings of the first worker."""
    board = StatusBoard(ENTRIES)
    states = (WorkerState.READY, WorkerState.STOPPING, WorkerState.STARTING, WorkerState.READY)
    for entry, state in enumerate(states):
        board.begin(entry, number=entry)
        board.set(entry, "pid", 1)
        board.set(entry, "state", state)
    return SiblingWorkers(board, tmp_path, 0)


def test_those_that_may_have_requests_are_asked(uses: list[LookupUses], siblings: SiblingWorkers) -> None:
    for number, one in enumerate(uses):
        one.last["a"] = float(number)
    assert siblings.last_uses() == [{"a": 1.0}]


def test_an_adapter_is_released_by_all_or_stays(uses: list[LookupUses], siblings: SiblingWorkers) -> None:
    uses[1].begin(Counter({"a": 1}))
    assert not siblings.release("a")
    uses[1].end(Counter({"a": 1}))
    assert siblings.release("a")
    assert [one.is_leaving("a") for one in uses] == [False, True, False]
