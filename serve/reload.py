"""Settings and adapters that a running server reads again: one entry of a table for each setting.

A reload loses no request, and what cannot be read again stays as it was.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.adapter_loading import AdapterLoading
from serve.api_keys import ApiKeys, read_api_keys
from serve.bundle.adapter import read_adapter
from serve.engine import Engine
from serve.errors import ServeError
from serve.tls import Tls

logger = logging.getLogger(__name__)


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


def reload_adapters(running: Running, settings: argparse.Namespace) -> None:
    """Load adapters that --adapter names and are not served, replace those that have changed, unload the others."""
    for folder in settings.adapter:
        with _kept_on_error(f"adapter {folder}"):
            name = _bring_up(running.engine, folder)
            before = running.names.get(folder, name)
            running.names[folder] = name
            if before != name:
                _unload(running, before)
    for folder in [one for one in running.names if one not in settings.adapter]:
        _unload(running, running.names.pop(folder))


def reload_adapter_folder(running: Running, settings: argparse.Namespace) -> None:
    """Replace adapters that were loaded from the folder and have changed; later ones are loaded below the new one."""
    running.loading.root = settings.adapter_dir
    for record in running.loading.served():
        with _kept_on_error(f"adapter {record.name}"):
            if running.loading.refresh(record):
                logger.info("replaced adapter %s", record.name)


def reload_api_keys(running: Running, settings: argparse.Namespace) -> None:
    """Read the API keys again; a server that was started without any stays without."""
    if running.api_keys is None or settings.api_keys is None:
        if (running.api_keys is None) != (settings.api_keys is None):
            logger.warning("API keys are switched on or off at the next start")
        return
    with _kept_on_error("API keys"):
        running.api_keys.replace(read_api_keys(settings.api_keys))


def reload_tls(running: Running, settings: argparse.Namespace) -> None:
    """Take up a renewed certificate for new connections; a server that was started without TLS stays without."""
    if running.tls is None or settings.tls_cert is None:
        if (running.tls is None) != (settings.tls_cert is None):
            logger.warning("TLS is switched on or off at the next start")
        return
    with _kept_on_error("the certificate"):
        if running.tls.reload(settings.tls_cert, settings.tls_key):
            logger.info("took up the certificate in %s", settings.tls_cert)


def reload_with_another(running: Running, settings: argparse.Namespace) -> None:
    """Do nothing: the setting is read with another one."""


Reload = Callable[[Running, argparse.Namespace], None]
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
        reloads: Mapping[str, Reload] = RELOADS,
    ) -> None:
        """Keep what a reload needs.

        Args:
            running: The parts that it changes.
            settings: Settings that the server was started with.
            read: Reads the settings again.
            reloads: Reloads by setting.
        """
        self.running, self.settings, self.read, self.reloads = running, settings, read, reloads

    def __call__(self) -> None:
        """Read the settings again, and do what they ask for."""
        try:
            settings = self.read()
        except (ServeError, SystemExit) as error:  # argparse has told of the flag that is wrong
            logger.error("nothing was reloaded: %s", error if isinstance(error, ServeError) else "a flag is wrong")
            return
        for reload in self.reloads.values():
            reload(self.running, settings)
        later = [
            name.replace("_", "-")
            for name, value in vars(self.settings).items()
            if name not in self.reloads and vars(settings)[name] != value
        ]
        if later:
            logger.warning("changed settings that take effect at the next start: %s", ", ".join(later))
        logger.info("reloaded")


def _bring_up(engine: Engine, folder: Path) -> str:
    """Serve the adapter in a folder, unless it is served already, and return its name."""
    card = read_adapter(folder).card
    served = engine.model(card.name)
    if served is None or served.is_base:
        engine.load(folder)
        logger.info("loaded adapter %s", card.name)
    elif served.sha256 != card.sha256:
        engine.load(folder, name=card.name, replace=True)
        logger.info("replaced adapter %s", card.name)
    return card.name


def _unload(running: Running, name: str) -> None:
    if running.engine.model(name) is None:  # another worker has unloaded it for all
        return
    with _kept_on_error(f"adapter {name}"):
        running.engine.unload(name)
        logger.info("unloaded adapter %s", name)


@contextmanager
def _kept_on_error(subject: str) -> Iterator[None]:
    """Log an error; what was served is still served."""
    try:
        yield
    except ServeError as error:
        logger.error("%s was not reloaded, and what was served stays: %s", subject, error)
