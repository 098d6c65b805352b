"""Adapters that clients, the watch and the lookup load and unload while a server runs, the same for every protocol."""

import asyncio
import contextlib
import dataclasses
import enum
import logging
import threading
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.adapter_folder import (
    MAX_PATH,
    Fingerprint,
    fingerprint,
    folder_below,
    has_card,
    named_in_card,
    without_paths,
)
from serve.api_keys import require_admin
from serve.engine import Engine, ModelInfo
from serve.errors import MAX_NAME, AdapterFailed, InputError, NotAllowed, ServeError, UnknownAdapter, shortened

logger = logging.getLogger(__name__)
UNLOAD_PARAMETERS = ("unload_dependents",)
"""Parameters of an unload that change nothing, since an adapter has no dependents."""


class Source(enum.StrEnum):
    """Who loaded an adapter."""

    CLIENT = "client"
    WATCH = "watch"
    LOOKUP = "lookup"


@dataclass(frozen=True, kw_only=True)
class FolderRecord:
    """A folder below --adapter-dir, and what became of it when it was last tried."""

    path: str
    """Path from --adapter-dir on."""
    source: Source
    name: str = ""
    """Name of the adapter that is served from it; empty for none."""
    error: str = ""
    """Reason why it could not be loaded; empty if it could. What was served before still is."""
    fingerprint: Fingerprint = ()
    """Its files then; empty lets the watch and the lookup try it again."""
    adapter: str = ""
    """Name in its card then; empty if it could not be read."""
    is_blocked: bool = False
    """It was not loaded since another adapter had that name."""


@dataclass(kw_only=True)
class AdapterLoading:
    """An engine, and the folder below which adapters are loaded from."""

    engine: Engine
    root: Path | None
    """None lets clients load and unload nothing."""
    records: MutableMapping[str, FolderRecord] = field(default_factory=dict)
    """Folders that have been tried, by their paths; the same for all processes of a server."""
    turn: AbstractContextManager[Any] = field(default_factory=threading.RLock)
    """Held while an adapter is loaded or unloaded, by one thread of all processes, which may take it again."""
    started: Mapping[Path, str] = field(default_factory=dict)
    """Names of adapters that are served for the sake of --adapter, by their folders."""

    async def load(self, name: str, path: str, *, replace: bool) -> ModelInfo:
        """Load the adapter `name` in the folder that a client names, beside the event loop.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
            InputError: The path leads elsewhere, or the adapter is refused.
        """
        root = self.allowed_root()
        await asyncio.to_thread(folder_below, root, path)
        return await asyncio.to_thread(self.bring_up, path, name=name, replace=replace, source=Source.CLIENT)

    async def unload(self, name: str) -> None:
        """Unload an adapter; requests that arrived before still get it.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
            UnknownAdapter: No adapter has that name.
        """
        self.allowed_root()
        await asyncio.to_thread(self.take_down, name)

    def bring_up(self, path: str, *, name: str | None, source: Source | None, replace: bool = False) -> ModelInfo:
        """Serve the adapter in a folder, and keep in its record what became of it; blocks.

        Args:
            path: Path of the folder, from --adapter-dir on.
            name: Name that the adapter must have; None takes any.
            source: Who loads it; None keeps what its record says.
            replace: Take the place of the adapter that has the name.

        Raises:
            InputError: There is no such folder, or its adapter is refused.
        """
        assert self.root is not None
        with self.turn:
            key = _normalized(path)
            record = self.records.get(key) or FolderRecord(path=key, source=source or Source.CLIENT)
            found, folder = fingerprint(self.root / path), None
            try:
                folder = folder_below(self.root, path)
                info = self.engine.load(folder, name=name, replace=replace)
            except ServeError as error:
                reason = without_paths(str(error), folder, path)
                # A client's mistake, such as another name, is no reason for others not to try the folder.
                self.note_failure(record, reason, files=() if source is Source.CLIENT else found)
                raise InputError(reason, error.field) from error
            self._clear_name(info.name)
            self.records[key] = FolderRecord(
                path=key, source=source or record.source, name=info.name, fingerprint=found, adapter=info.name
            )
            return info

    def note_failure(self, record: FolderRecord, reason: str, *, files: Fingerprint) -> None:
        """Keep the reason why a folder with these files is not served; what was served from it before still is."""
        assert self.root is not None
        card = named_in_card(self.root / record.path)
        adapter = "" if card is None else card.name
        is_blocked = adapter not in ("", record.name) and self.engine.serves(adapter)
        self.records[record.path] = dataclasses.replace(
            record, error=reason, fingerprint=files, adapter=adapter, is_blocked=is_blocked
        )

    def take_down(self, name: str) -> None:
        """Unload an adapter; its folder is not loaded again by the watch before it changes.

        Raises:
            UnknownAdapter: No adapter has that name.
        """
        with self.turn:
            self.engine.unload(name)
            self._clear_name(name)

    def look_up(self, name: str) -> bool:
        """Load an adapter that is not served from the folder of its name; return False if there is no such folder.

        Raises:
            AdapterFailed: It is there and is refused; it is not tried again before its files change.
        """
        if self.root is None or not name or "/" in name or name.startswith(".") or len(name) > MAX_NAME:
            return False
        found = fingerprint(self.root / name)
        if not has_card(found):
            return False
        with self.turn:
            if self.engine.serves(name):
                return True
            record = self.records.get(name)
            if record is not None and record.error and record.fingerprint == found:
                raise AdapterFailed(_refusal(name, record.error))
            try:
                self.bring_up(name, name=name, source=Source.LOOKUP)
            except InputError as error:
                logger.error("adapter %s was looked up and is not served: %s", name, error)
                raise AdapterFailed(_refusal(name, str(error))) from error
            logger.info("loaded adapter %s, which a request names", name)
            return True

    def drop(self, name: str) -> None:
        """Unload an adapter that the lookup loaded, unless it is not the lookup's any more."""
        with self.turn, contextlib.suppress(UnknownAdapter):
            if any(record.name == name and record.source is Source.LOOKUP for record in self.served()):
                self.take_down(name)
                logger.info("unloaded adapter %s, which the lookup has no more room for", name)

    def refresh(self, record: FolderRecord) -> bool:
        """Replace the adapter of a folder if its files have changed; return whether other weights are served.

        Raises:
            InputError: The folder is gone, or its adapter is refused.
        """
        if self.root is None or fingerprint(self.root / record.path) == record.fingerprint != ():
            return False
        before = self.engine.model(record.name)
        info = self.bring_up(record.path, name=record.name, source=None, replace=True)
        return before is None or before.sha256 != info.sha256

    def looked_up(self) -> set[str]:
        """Return the names of the adapters that lookups have loaded, for whichever process."""
        return {record.name for record in self.served() if record.source is Source.LOOKUP}

    def served(self) -> list[FolderRecord]:
        """Return the records of the adapters that are served."""
        return [record for record in list(self.records.values()) if record.name]

    def _clear_name(self, name: str) -> None:
        """Note that an adapter is not served from the folder that it was served from."""
        for record in self.served():
            if record.name == name:
                self.records[record.path] = dataclasses.replace(record, name="")

    def allowed_root(self) -> Path:
        """Return the folder below which the client may load adapters; ask before anything of its request is read.

        Raises:
            NotAllowed: The server lets clients load none, or not this one.
        """
        require_admin()
        if self.root is None:
            raise NotAllowed("adapters are not loaded while serving: start adamix-serve with --adapter-dir FOLDER")
        return self.root


def check_parameters(names: Iterable[str], allowed: Sequence[str] = ()) -> None:
    """Raise an InputError for parameters of the Open Inference Protocol that would change a model elsewhere."""
    if unknown := set(names).difference(allowed):
        raise InputError(
            f"unknown parameter {shortened(min(unknown), MAX_PATH)!r}: an adapter's folder says all there is to it"
        )


def _normalized(path: str) -> str:
    """Return one spelling of a path."""
    return str(Path(path))


def _refusal(name: str, reason: str) -> str:
    return f"adapter {name} is there and cannot be served until its files are mended: {reason}"
