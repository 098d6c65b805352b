import os

from serve.workers.board import StatusBoard, WorkerState


def test_a_child_process_writes_what_its_parent_reads() -> None:
    board = StatusBoard(2)
    board.begin(1, number=0)
    assert board.get(1) is None, "it has no process yet"
    pid = os.fork()
    if not pid:
        board.set(1, "pid", os.getpid())
        board.set(1, "state", WorkerState.READY)
        board.set(1, "connections", 3)
        os._exit(0)
    os.waitpid(pid, 0)
    status = board.get(1)
    assert status is not None
    assert (status.pid, status.state, status.connections) == (pid, WorkerState.READY, 3)
    assert board.get(0) is None
    board.end(1)
    assert board.workers() == []


def test_workers_are_in_the_order_of_their_numbers() -> None:
    board = StatusBoard(3)
    for entry, number in ((0, 2), (1, 0), (2, 1)):
        board.begin(entry, number=number)
        board.set(entry, "pid", 1 + entry)
    assert [(one.number, one.entry) for one in board.workers()] == [(0, 1), (1, 2), (2, 0)]


def test_restarts_are_counted() -> None:
    board = StatusBoard(1)
    board.count_restart()
    board.count_restart()
    board.end(0)
    assert board.restarts == 2
