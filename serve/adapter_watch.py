"""The watch over --adapter-dir: adapters that appear, change and vanish there are loaded, replaced and unloaded."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from serve.adapter_folder import (
    Fingerprint,
    Named,
    adapter_folders,
    fingerprint,
    has_card,
    named_in_card,
    without_paths,
)
from serve.adapter_loading import AdapterLoading, FolderRecord, Source
from serve.bundle.adapter import read_adapter
from serve.errors import BundleError, InputError, UnknownAdapter

logger = logging.getLogger(__name__)


class AdapterWatch:
    """Looks at the folders below --adapter-dir every few seconds, in a thread.

    A folder is settled when two looks in a row find the same files. Only a settled one is loaded; one that fails is
    told once, and tried again when its files have changed, or when the name is free that another folder's adapter had.
    One that two looks do not find is gone.
    """

    def __init__(self, loading: AdapterLoading, *, seconds: float, on_demand: bool = False) -> None:
        """Describe a watch.

        Args:
            loading: The adapters, and their folder.
            seconds: Time between two looks.
            on_demand: Load no adapter that is new, since requests look them up; keep those that are loaded up to date.
        """
        self.loading, self.seconds, self.on_demand = loading, seconds, on_demand
        self.before: dict[str, Fingerprint] = {}
        """Files that the look before found."""
        self.listed: frozenset[str] = frozenset()
        """Folders directly below --adapter-dir; others are watched while an adapter of theirs is served."""
        self.ended = threading.Event()
        self.obstacle = ""
        """Reason why the folder cannot be listed, which has been told."""
        self.thread = threading.Thread(target=self._run, name="adamix-adapter-watch", daemon=True)

    def start(self) -> None:
        """Load what is there, and begin to watch; what fails now may not be whole yet, and is tried again."""
        root = self.loading.root
        for path, found in self._look(root).items() if root is not None else ():
            if has_card(found) and not self._take_up(path, found, is_told=False):
                self.loading.records.pop(path, None)
        self.thread.start()

    def stop(self) -> None:
        """End the watch."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()

    def look(self) -> None:
        """Look at the folders once, and take up those that have changed and are settled."""
        root, before = self.loading.root, self.before
        if root is None:
            return
        settled = {path: found for path, found in self._look(root).items() if before.get(path) == found}
        for path in [one for one, found in settled.items() if not found]:
            self._forget(path, settled)
        for path, found in settled.items():
            if found:
                self._take_up(path, found)

    def _look(self, root: Path) -> dict[str, Fingerprint]:
        """Return the files of all folders, also of those that were there; nothing if the folder cannot be listed."""
        try:
            found = adapter_folders(root)
        except OSError as error:
            if self.obstacle != str(error):
                logger.error("--adapter-dir cannot be watched, and what is served stays: %s", error)
            self.obstacle = str(error)
            return {}
        self.obstacle = ""
        self.listed = frozenset(found)
        known = [*self.before, *self.loading.records]
        found |= {path: fingerprint(root / path) for path in known if path not in found}
        self.before = {path: one for path, one in found.items() if one or path in self.loading.records}
        return found

    def _take_up(self, path: str, found: Fingerprint, *, is_told: bool = True) -> bool:
        """Serve what a folder holds now, unless that has been tried; return False if it is refused."""
        loading = self.loading
        with loading.turn:
            record = loading.records.get(path) or FolderRecord(path=path, source=Source.WATCH)
            if record.fingerprint == found and not self._is_free(record):
                return True
            if not record.name and (self.on_demand or path not in self.listed):
                return True
            try:
                self._serve(record, found)
            except InputError as error:
                if is_told:
                    stays = f", and the {record.name} that was loaded before stays" if record.name else ""
                    logger.error("adapter folder %s was not loaded%s: %s", path, stays, error)
                return False
            return True

    def _serve(self, record: FolderRecord, found: Fingerprint) -> None:
        """Load or replace the adapter of a folder.

        Raises:
            InputError: It is refused.
        """
        assert self.loading.root is not None
        folder = self.loading.root / record.path
        named, before = named_in_card(folder), self.loading.engine.model(record.name) if record.name else None
        if named is not None and not record.name and self._is_served(named):
            self._note_twin(record, folder, named, found)
            return
        is_own = named is not None and named.name == record.name
        source = None if record.name else Source.WATCH
        name = None if named is None else named.name
        info = self.loading.bring_up(record.path, name=name, source=source, replace=is_own)
        if not is_own:
            logger.info("loaded adapter %s", info.name)
        elif before is None or before.sha256 != info.sha256:
            logger.info("replaced adapter %s", info.name)
        if record.name and not is_own:
            self._unload(record.name)

    def _note_twin(self, record: FolderRecord, folder: Path, named: Named, found: Fingerprint) -> None:
        """Keep that a folder holds the very adapter that is served.

        Raises:
            InputError: It is served from another folder, or the weights are not those that the card has the hash of.
        """
        started = {one.resolve() for one in list(self.loading.started)}
        if folder.resolve() in started:
            self.loading.records[record.path] = replace(
                record, error="", fingerprint=found, adapter=named.name, is_blocked=True
            )
            return
        try:
            read_adapter(folder)
        except BundleError as error:
            reason = without_paths(str(error), folder, record.path)
            self.loading.note_failure(record, reason, files=found)
            raise InputError(reason) from error
        others = (one.path for one in self.loading.served() if one.name == named.name)
        place = next((f"the folder {path}" for path in others), "the bundle or --adapter")
        reason = f"the adapter {named.name} with these very weights is served from {place}: remove one of the two"
        self.loading.note_failure(record, reason, files=found)
        raise InputError(reason)

    def _is_free(self, record: FolderRecord) -> bool:
        """Return whether the name that a folder was refused for has become free, and nobody wants it to be."""
        return (
            record.is_blocked
            and not self.loading.engine.serves(record.adapter)
            and not any(
                one.adapter == record.adapter and not (one.name or one.error or one.is_blocked)  # a client unloaded it
                for one in list(self.loading.records.values())
            )
        )

    def _is_served(self, named: Named) -> bool:
        served = self.loading.engine.model(named.name)
        return served is not None and not served.is_base and served.sha256 == named.sha256

    def _forget(self, path: str, settled: Mapping[str, Fingerprint]) -> None:
        """Serve the adapter of a folder that is gone from another one that has its name, or unload it."""
        with self.loading.turn:
            record = self.loading.records.pop(path, None)
            if record is None or not record.name:
                return
            for other in () if self.on_demand else self._folders_of(record.name, settled):
                with contextlib.suppress(InputError):
                    self.loading.bring_up(other, name=record.name, source=Source.WATCH, replace=True)
                    logger.info("adapter %s is served from %s, since %s is gone", record.name, other, path)
                    return
            self._unload(record.name)

    def _folders_of(self, name: str, settled: Mapping[str, Fingerprint]) -> Iterator[str]:
        """Yield the folders that have an adapter of this name and serve none."""
        serving = {one.path for one in self.loading.served()}
        for path, found in settled.items():
            if found and path in self.listed and path not in serving and self.loading.root is not None:
                named = named_in_card(self.loading.root / path)
                if named is not None and named.name == name:
                    yield path

    def _unload(self, name: str) -> None:
        try:
            self.loading.take_down(name)
        except UnknownAdapter:
            return  # somebody else was quicker
        logger.info("unloaded adapter %s, whose folder is gone", name)

    def _run(self) -> None:
        while not self.ended.wait(self.seconds):
            try:
                self.look()
            except Exception:  # a bug, which should not end the watch
                logger.exception("a look at --adapter-dir failed; the next one is in %g s", self.seconds)
