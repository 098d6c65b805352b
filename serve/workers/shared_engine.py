"""An engine around a worker's engine: adapters are loaded and unloaded on all workers of a server, or on none."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve.bundle.adapter import read_adapter
from serve.engine import Engine, ModelInfo
from serve.engine_wrapper import EngineWrapper
from serve.errors import BundleError, ServeError, UnknownAdapter
from serve.workers.adapter_state import AdapterEntry, AdapterStateFile, State, format_state, parse_state
from serve.workers.board import StatusBoard, WorkerState, WorkerStatus
from serve.workers.control import Refused, Unreachable, ask
from serve.workers.place import control_socket

APPLY = "apply adapters"
"""The question that brings a sibling to a state."""
APPLY_SECONDS = 120.0
"""Time that a sibling has for it; one that needs longer is restarted with the new state."""
LISTENING = (WorkerState.OPEN, WorkerState.WARMING, WorkerState.READY)
logger = logging.getLogger(__name__)


class AdapterOverlay:
    """A worker's engine, and the changes since its start that it has followed."""

    def __init__(self, engine: Engine, folders: Mapping[str, Path]) -> None:
        """Begin with an engine as its own start left it; `folders` are those of its adapters, by name."""
        self.engine, self.folders = engine, folders
        self.state: dict[str, AdapterEntry] = {}
        self.before: dict[str, AdapterEntry] = {}
        """The adapters of its start that have been replaced or unloaded."""

    def note(self, name: str) -> None:
        """Keep what a name is by the start, before it changes for the first time."""
        if name not in self.before:
            found, folder = self.engine.model(name), self.folders.get(name)
            is_there = found is not None and not found.is_base and folder is not None
            self.before[name] = AdapterEntry(
                folder=str(folder) if is_there else None, sha256=found.sha256 if is_there and found else ""
            )

    def apply(self, state: State, *, back: bool = False) -> None:
        """Bring the engine to a state; `back` to one that it or others had, whatever it has now.

        Raises:
            ServeError: It refuses an adapter; the others are as the state has them.
        """
        errors = []
        for name in dict.fromkeys((*self.state, *state)):
            self.note(name)
            try:
                self._bring(name, state.get(name, self.before[name]), back=back)
            except ServeError as error:
                errors.append(error)
        self.state = dict(state)
        if errors:
            raise errors[0]

    def _bring(self, name: str, entry: AdapterEntry, *, back: bool) -> None:
        served = self.engine.model(name)
        is_served = served is not None and not served.is_base
        if entry.folder is None:
            if is_served:
                self.engine.unload(name)
        elif served is None or not is_served:
            self.engine.load(Path(entry.folder), name=name)
        elif served.sha256 != entry.sha256:
            try:
                self.engine.load(Path(entry.folder), name=name, replace=True)
            except BundleError:
                if not back:
                    raise
                # It may have other labels, which are not replaced.
                self.engine.unload(name)
                self.engine.load(Path(entry.folder), name=name)


class SharedEngine(EngineWrapper):
    """An engine whose adapters are those of all workers; everything but a change is the worker's own engine's."""

    def __init__(
        self, engine: Engine, folders: Mapping[str, Path], file: AdapterStateFile, board: StatusBoard, entry: int
    ) -> None:
        """Stand around an engine.

        Args:
            engine: The worker's own.
            folders: Folders of the adapters that it has from its start, by name.
            file: The state of all workers.
            board: Says which workers there are.
            entry: This worker's entry of it.
        """
        super().__init__(engine)
        self.file, self.board, self.entry = file, board, entry
        self.overlay = AdapterOverlay(engine, folders)

    def join(self, listen: Callable[[], None]) -> None:
        """Bring the engine to the state of the others, and call `listen`; changes wait meanwhile."""
        with self.file.locked():
            self.overlay.apply(self.file.read(), back=True)
            listen()
            self.board.set(self.entry, "state", WorkerState.OPEN)

    def answer(self, asked: Mapping[str, Any]) -> None:
        """Bring the engine to a state that a sibling sends."""
        self.overlay.apply(parse_state(asked["state"]), back=asked["back"])

    def load(self, folder: Path, *, name: str | None = None, replace: bool = False) -> ModelInfo:
        """Load an adapter on all workers, or on none; see `Engine`."""
        with self._changing() as state:
            copy = self.file.copy(folder)
            try:
                card = read_adapter(copy).card
                self.overlay.note(card.name)
                entry = AdapterEntry(folder=str(copy), sha256=card.sha256)
                served = self.engine.model(card.name)
                if replace and served is not None and served.sha256 == card.sha256 and name in (None, card.name):
                    return served  # such as one that another worker has replaced for all
                info = self.engine.load(copy, name=name, replace=replace)
            except ServeError as error:
                raise _with_folder(error, copy, folder) from error
            self._share(state, {**state, info.name: entry})
            return info

    def unload(self, name: str) -> None:
        """Unload an adapter on all workers; see `Engine`."""
        with self._changing() as state:
            if (found := self.engine.model(name)) is None or found.is_base:
                self.engine.unload(name)  # raises the error of an engine
            self.overlay.note(name)
            self.engine.unload(name)
            self._share(state, {**state, name: AdapterEntry(folder=None)})

    @contextlib.contextmanager
    def _changing(self) -> Any:
        """Yield the state, which no other worker changes meanwhile and which all have."""
        with self.file.locked():
            state = self.file.read()
            if self.file.is_unfinished:  # a worker died in the middle of a change
                self._tell_all(state)
            with self.file.unfinished():
                error: BaseException | None = None
                try:
                    yield state
                except Exception as raised:
                    error = raised
            if error is not None:
                raise error

    def _share(self, state: State, target: State) -> None:
        """Bring the siblings to a new state and keep it; if one refuses, bring all back to the old one.

        Raises:
            BundleError: One refuses.
        """
        self.overlay.state = dict(target)
        refusals = self._broadcast(target)
        if not refusals:
            self.file.write(target)
            return
        self._tell_all(state)
        raise BundleError(f"a worker refuses, so that none has changed: {refusals[0][1]}")

    def _tell_all(self, state: State) -> None:
        """Bring this worker and its siblings to a state; one that refuses is restarted with it."""
        for status, reason in self._broadcast(state, back=True):
            self._restart(status, reason)
        try:
            self.overlay.apply(state, back=True)
        except ServeError as error:
            logger.error("this worker cannot go back to the adapters of the others, and starts again: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)

    def _broadcast(self, state: State, *, back: bool = False) -> list[tuple[WorkerStatus, str]]:
        """Bring the siblings to a state, and return those that refuse, with their reasons."""
        siblings = [one for one in self.board.workers() if one.entry != self.entry and one.state in LISTENING]
        asked = {"state": format_state(state), "back": back}
        with ThreadPoolExecutor(max(1, len(siblings))) as threads:
            answers: Iterable[str | None] = threads.map(lambda one: self._tell(one, asked), siblings)
            return [(one, why) for one, why in zip(siblings, answers, strict=True) if why is not None]

    def _tell(self, status: WorkerStatus, asked: Mapping[str, Any]) -> str | None:
        """Return the reason why a worker refuses; one that does not answer will have the state when it starts again."""
        try:
            ask(control_socket(self.file.folder, status.entry), APPLY, asked, timeout=APPLY_SECONDS)
        except Refused as error:
            return str(error)
        except Unreachable as error:
            self._restart(status, str(error))
        return None

    def _restart(self, status: WorkerStatus, reason: str) -> None:
        """End a worker that cannot follow; the supervisor starts it again."""
        if (now := self.board.get(status.entry)) is not None and now.pid == status.pid:
            logger.error("worker %d does not follow a change of adapters and is restarted: %s", status.number, reason)
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)


def _with_folder(error: ServeError, copy: Path, folder: Path) -> ServeError:
    """Return an error with the folder that was asked for in the place of its copy."""
    if isinstance(error, BundleError | UnknownAdapter):
        return type(error)(str(error).replace(str(copy), str(folder)))
    return error
