"""The watch over --adapter-dir: adapters that appear, change and vanish there are loaded, replaced and unloaded."""

import logging
import threading
from pathlib import Path

from serve.adapter_folder import Fingerprint, adapter_folders, fingerprint, has_card, named_in_card
from serve.adapter_loading import AdapterLoading, FolderRecord, Source
from serve.errors import InputError, UnknownAdapter

logger = logging.getLogger(__name__)


class AdapterWatch:
    """Looks at the folders below --adapter-dir every few seconds, in a thread.

    A folder is settled when two looks in a row find the same files. Only a settled one is loaded; one that fails is
    told once, and tried again when its files have changed. One that two looks do not find is gone.
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
        for path, found in self._look(root).items():
            if found and before.get(path) == found:
                self._take_up(path, found)
            elif not found and before.get(path) == ():
                self._forget(path)

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
        record = loading.records.get(path)
        if record is not None and record.fingerprint == found:
            return True
        name_before = "" if record is None else record.name
        if not name_before and (self.on_demand or path not in self.listed):
            return True
        named = None if loading.root is None else named_in_card(loading.root / path)
        if named is not None and not name_before and self._is_served(named.name, named.sha256):
            loading.records[path] = FolderRecord(path=path, source=Source.WATCH, fingerprint=found)
            return True  # by --adapter, or from another folder
        is_own = named is not None and named.name == name_before
        try:
            source = None if name_before else Source.WATCH
            name = None if named is None else named.name
            info = loading.bring_up(path, name=name, source=source, replace=is_own)
        except InputError as error:
            if is_told:
                stays = f", and the {name_before} that was loaded before stays" if name_before else ""
                logger.error("adapter folder %s was not loaded%s: %s", path, stays, error)
            return False
        logger.info("%s adapter %s", "replaced" if is_own else "loaded", info.name)
        if name_before and not is_own:
            self._unload(name_before)
        return True

    def _is_served(self, name: str, sha256: str) -> bool:
        served = self.loading.engine.model(name)
        return served is not None and not served.is_base and served.sha256 == sha256

    def _forget(self, path: str) -> None:
        """Unload the adapter of a folder that is gone."""
        record = self.loading.records.pop(path, None)
        if record is not None and record.name:
            self._unload(record.name)

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
