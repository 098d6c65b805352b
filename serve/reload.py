"""Settings and adapters that a running server reads again: one entry of a table for each setting.

A reload loses no request. All is read and checked before anything is changed: one that fails changes nothing.
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKeys, read_api_keys
from serve.bundle.adapter import AdapterCard, read_adapter
from serve.engine import Engine
from serve.errors import ServeError
from serve.tls import Tls, TlsFiles, read_tls

logger = logging.getLogger(__name__)
Change = Callable[[], Iterable[str]]
"""Changes a running server, and returns a line for each part that stays as it was."""


@dataclass(kw_only=True)
class Running:
    """The parts of a running server that a reload changes."""

    engine: Engine
    loading: AdapterLoading
    """Adapters that clients load."""
    names: dict[Path, str]
    """Names of the adapters that are served for the sake of --adapter, by their folders."""
    api_keys: ApiKeys | None = None
    tls: Tls | None = None


def reload_adapters(running: Running, settings: argparse.Namespace) -> Change:
    """Load adapters that --adapter names and are not served, replace those that have changed, unload the others."""
    cards = {folder: read_adapter(folder).card for folder in settings.adapter}

    def change() -> Iterator[str]:
        for folder, card in cards.items():
            try:
                _bring_up(running.engine, folder, card)
            except ServeError as error:
                yield f"adapter {folder} is refused, and what was served stays: {error}"
                continue
            before = running.names.get(folder, card.name)
            running.names[folder] = card.name
            if before != card.name:
                yield from _unload(running, before)
        for folder in [one for one in running.names if one not in cards]:
            yield from _unload(running, running.names.pop(folder))

    return change


def reload_adapter_folder(running: Running, settings: argparse.Namespace) -> Change:
    """Replace adapters that were loaded from the folder and have changed; later ones are loaded below the new one."""

    def change() -> Iterator[str]:
        running.loading.root = settings.adapter_dir
        for record in running.loading.served():
            try:
                if running.loading.refresh(record):
                    logger.info("replaced adapter %s", record.name)
            except ServeError as error:
                yield f"adapter {record.name} stays as it was: {error}"

    return change


def reload_api_keys(running: Running, settings: argparse.Namespace) -> Change:
    """Read the API keys again; a server that was started without any stays without."""
    api_keys = running.api_keys
    if api_keys is None or settings.api_keys is None:
        is_switched = (api_keys is None) != (settings.api_keys is None)
        return partial(_warn, "API keys are switched on or off at the next start" if is_switched else "")
    keys = read_api_keys(settings.api_keys)

    def change() -> Iterable[str]:
        api_keys.replace(keys)
        return ()

    return change


def reload_tls(running: Running, settings: argparse.Namespace) -> Change:
    """Take up a renewed certificate for new connections; a server that was started without TLS stays without."""
    tls = running.tls
    if tls is None or settings.tls_cert is None:
        is_switched = (tls is None) != (settings.tls_cert is None)
        return partial(_warn, "TLS is switched on or off at the next start" if is_switched else "")
    content = read_tls(TlsFiles(cert=settings.tls_cert, key=settings.tls_key))

    def change() -> Iterable[str]:
        if tls.take_up(content):
            logger.info("took up the certificate in %s", settings.tls_cert)
        return ()

    return change


def reload_with_another(running: Running, settings: argparse.Namespace) -> Change:
    """Do nothing: the setting is read with another one."""
    return tuple


Reload = Callable[[Running, argparse.Namespace], Change]
"""Reads and checks what a setting names, and returns the change; raises a ServeError, and changes nothing itself."""
RELOADS: dict[str, Reload] = {
    "adapter": reload_adapters,
    "adapter_dir": reload_adapter_folder,
    "api_keys": reload_api_keys,
    "tls_cert": reload_tls,
    "tls_key": reload_with_another,
}
"""Reloads by setting. A setting that is not here keeps its value until the next start."""


class Reloader:
    """The reload of a server; calls are made one at a time."""

    def __init__(
        self,
        running: Running,
        settings: argparse.Namespace,
        read: Callable[[], argparse.Namespace],
        *,
        keep: Callable[[argparse.Namespace], None] = lambda settings: None,
        reloads: Mapping[str, Reload] = RELOADS,
    ) -> None:
        """Keep what a reload needs.

        Args:
            running: The parts that it changes.
            settings: Settings that the server was started with.
            read: Reads the settings again.
            keep: Called with the settings that the server has after a reload.
            reloads: Reloads by setting.
        """
        self.running, self.settings, self.read, self.keep, self.reloads = running, settings, read, keep, reloads

    def __call__(self) -> bool:
        """Read the settings again, and do what they ask for; return False if they are wrong, and nothing is changed."""
        try:
            settings = self.read()
            changes = [reload(self.running, settings) for reload in self.reloads.values()]
        except ServeError as error:
            logger.error("nothing was reloaded, and the server runs on as it was: %s", error)
            return False
        failures = [line for change in changes for line in change()]
        for line in failures:
            logger.error("%s", line)
        self._take_over(settings)
        logger.info("reloaded, but for %d of the adapters" if failures else "reloaded", *filter(None, [len(failures)]))
        return True

    def _take_over(self, settings: argparse.Namespace) -> None:
        """Keep the settings that hold from now on, and name those that wait."""
        given = vars(settings)
        later = [
            name.replace("_", "-")
            for name, value in vars(self.settings).items()
            if name not in self.reloads and given[name] != value
        ]
        if later:
            logger.warning("changed settings that take effect at the next start: %s", ", ".join(later))
        changed = {name: given[name] for name in self.reloads}
        self.settings = argparse.Namespace(**{**vars(self.settings), **changed})
        self.keep(self.settings)


def _bring_up(engine: Engine, folder: Path, card: AdapterCard) -> None:
    """Serve the adapter in a folder, unless it is served already."""
    served = engine.model(card.name)
    if served is None or served.is_base:
        engine.load(folder)
        logger.info("loaded adapter %s", card.name)
    elif served.sha256 != card.sha256:
        engine.load(folder, name=card.name, replace=True)
        logger.info("replaced adapter %s", card.name)


def _unload(running: Running, name: str) -> Iterator[str]:
    if running.engine.model(name) is None:  # another worker has unloaded it for all
        return
    try:
        running.engine.unload(name)
    except ServeError as error:
        yield f"adapter {name} is not unloaded: {error}"
    else:
        logger.info("unloaded adapter %s", name)


def _warn(text: str) -> Iterable[str]:
    if text:
        logger.warning("%s", text)
    return ()
