"""The other workers of a server, asked for their uses of adapters that lookups have loaded."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve.lookup_uses import LookupUses
from serve.workers.board import StatusBoard, WorkerState
from serve.workers.control import Answer, Refused, Unreachable, ask
from serve.workers.place import control_socket

USES, RELEASE = "last uses", "release adapter"
"""Questions that a worker answers from its `LookupUses`."""
ANSWER_SECONDS = 1.0
"""Time for an answer. A worker that gives none hangs, or is gone: it uses no adapter."""
HAS_REQUESTS = (WorkerState.WARMING, WorkerState.READY, WorkerState.STOPPING)


class SiblingWorkers:
    """All workers but one."""

    def __init__(self, board: StatusBoard, folder: Path, entry: int) -> None:
        """Describe those of a status board beside the one that has an entry of it."""
        self.board, self.folder, self.entry = board, folder, entry

    def last_uses(self) -> Sequence[Mapping[str, float]]:
        """Return the last uses of adapters in each."""
        return [answer for answer in self._ask_all(USES) if answer is not None]

    def release(self, name: str) -> bool:
        """Let an adapter be unloaded; return False if one of them uses it."""
        return False not in self._ask_all(RELEASE, name)

    def _ask_all(self, question: str, value: Any = None) -> list[Any]:
        """Return the answers, None for none."""
        others = [one for one in self.board.workers() if one.entry != self.entry and one.state in HAS_REQUESTS]

        def ask_one(entry: int) -> Any:
            try:
                return ask(control_socket(self.folder, entry), question, value, timeout=ANSWER_SECONDS)
            except (Unreachable, Refused):
                return None

        with ThreadPoolExecutor(max(1, len(others))) as threads:
            return list(threads.map(ask_one, [one.entry for one in others]))


def answers_of(uses: LookupUses) -> Mapping[str, Answer]:
    """Return the answers to the questions of siblings."""
    found: dict[str, Callable[[Any], Any]] = {
        USES: lambda _: uses.last.copy(),
        RELEASE: uses.release,
    }
    return found
