"""The check of a configuration: everything that a server opens, opened and described."""

import argparse
import json
import logging
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.address import address, without_password
from serve.api_keys import read_api_keys
from serve.bundle.adapter import CARD
from serve.connection_flags import tls_files
from serve.engine import Engine
from serve.errors import BundleError, ConfigurationError, ServeError
from serve.http.health import describe_bundle
from serve.tls import read_tls

logger = logging.getLogger(__name__)
ASKED = ("check", "json")
SECRETS: dict[str, Callable[[str], str]] = {"otlp_endpoint": without_password}
"""Settings that may hold a secret, and how they are shown."""


def check(engine: Engine, settings: argparse.Namespace) -> dict[str, Any]:
    """Return a description of an engine whose bundles and canary rows have been checked, and of its settings.

    Adapters that clients may load are loaded too, one after the other.

    Raises:
        ServeError: A file of keys or of TLS is wrong, an address is none, or an adapter is refused.
    """
    tls = tls_files(settings)
    if tls is not None:
        read_tls(tls)
    _warn_of_open_files(settings.max_connections)
    keys = None if settings.api_keys is None else list(read_api_keys(settings.api_keys))
    bundles = [
        {"folder": str(folder), **describe_bundle(part)}
        for folder, part in zip(settings.bundles, engine.parts(), strict=True)
    ]
    return {
        "bundles": bundles,
        "adapter_dir": _check_adapter_folder(engine, settings.adapter_dir),
        "api_keys": keys,
        "tls": tls is not None,
        "http": _check_address(settings.host, settings.port),
        "grpc": None if settings.grpc_port is None else _check_address(settings.host, settings.grpc_port),
        "settings": {name: _shown(name, value) for name, value in vars(settings).items() if name not in ASKED},
    }


def as_text(found: dict[str, Any]) -> str:
    """Return a description for people."""
    lines = []
    for bundle in found["bundles"]:
        facts = ", ".join(bundle[name] for name in ("task", "shape", "precision", "provider"))
        lines.append(f"{bundle['folder']}: {facts}; {bundle['graph']} opens")
        for name, model in {**bundle["adapters"], **bundle["members"]}.items():
            lines.append(f"  {name}: {model['kind']}, sha256 {model['sha256'][:12]}, canary rows as in PyTorch")
    lines += [f"{name}: below --adapter-dir, canary rows as in PyTorch" for name in found["adapter_dir"]]
    if found["api_keys"]:
        lines.append(f"API keys: {', '.join(found['api_keys'])}")
    secure = " over TLS" if found["tls"] else ""
    lines += [f"{protocol} on {found[protocol]}{secure}" for protocol in ("http", "grpc") if found[protocol]]
    return "\n".join(lines)


def as_json(found: dict[str, Any]) -> str:
    """Return a description as one JSON object."""
    return json.dumps(found, ensure_ascii=False, indent=2)


def _check_adapter_folder(engine: Engine, root: Path | None) -> list[str]:
    """Load the adapters that are directly below a folder, one at a time, and return their names."""
    names, served = [], {model.name for model in engine.models()}
    for folder in sorted(file.parent for file in root.glob(f"*/{CARD}")) if root is not None else ():
        try:
            name = engine.load(folder, replace=True).name
        except ServeError as error:
            raise BundleError(f"--adapter-dir: {error}") from error
        if name not in served:
            engine.unload(name)
        names.append(name)
    return names


def _check_address(host: str, port: int) -> str:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.bind((place[0], 0, *place[2:]))  # any free port: a server may run on the one that is given
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{host} is no address to listen on: {getattr(error, 'strerror', error)}") from error
    return address(host, port)


def _warn_of_open_files(connections: int) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and connections >= files:
        logger.warning("--max-connections %d needs as many open files, and ulimit -n allows %d", connections, files)


def _shown(name: str, value: Any) -> Any:
    """Return a setting as a value of JSON, without secrets."""
    return _plain(value if value is None or name not in SECRETS else SECRETS[name](value))


def _plain(value: Any) -> Any:
    """Return a value of JSON."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
