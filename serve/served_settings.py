"""The settings that a server runs with, and what it has read from the files that they name.

A worker that is started again takes them from the others: the files may have been changed since, and be wrong.
"""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve.api_keys import ApiKey, ApiKeys, api_keys_from, read_api_keys
from serve.connection_flags import tls_files
from serve.tls import Tls, TlsContent, read_tls


@dataclass(frozen=True, kw_only=True)
class ServedSettings:
    """Settings, API keys and TLS of one moment."""

    settings: Namespace
    keys: Mapping[str, Mapping[str, Any]] | None = None
    """Entries of the file of API keys by name; None without keys."""
    tls: TlsContent | None = None
    """None without TLS."""

    def api_keys(self) -> dict[str, ApiKey] | None:
        """Return the keys by name, with full allowances; None without keys."""
        return None if self.keys is None else api_keys_from(self.keys, self.settings.api_keys)


def read_files(settings: Namespace) -> ServedSettings:
    """Return settings with the content of the files that they name.

    Raises:
        ConfigurationError: A file cannot be read, or is wrong.
    """
    keys = None if settings.api_keys is None else read_api_keys(settings.api_keys)
    files = tls_files(settings)
    return ServedSettings(
        settings=settings,
        keys=None if keys is None else {name: key.entry() for name, key in keys.items()},
        tls=None if files is None else read_tls(files),
    )


def served(settings: Namespace, api_keys: ApiKeys | None, tls: Tls | None) -> ServedSettings:
    """Return settings with the keys and the TLS that a running server has."""
    return ServedSettings(
        settings=settings,
        keys=None if api_keys is None else {name: key.entry() for name, key in api_keys.by_name.items()},
        tls=None if tls is None else tls.content,
    )
