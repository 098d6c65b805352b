"""API keys: who may ask for what, and how much of it a minute.

A file names each key and holds its sha256, never the key itself:

    [acme]                      # any name; turns are shared out between keys, and logs show it
    sha256 = "…"                # of the key: printf %s KEY | sha256sum
    requests_per_minute = 600   # optional
    tokens_per_minute = 100000  # optional: of texts, and of what is asked to be generated

    [operator]
    sha256 = "…"
    admin = true                # may load, replace and unload adapters
"""

import hashlib
import hmac
import re
import time
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.errors import ConfigurationError, NotAllowed, NotAuthenticated, Overloaded, shortened

SHA256 = re.compile(r"[0-9a-f]{64}")
MINUTE = 60.0
MOST = 10**12
"""Largest limit a minute."""


class Allowance:
    """An amount a minute, which fills up evenly; a minute's worth may be taken at once."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.left = float(per_minute)
        self.since = time.monotonic()

    def take(self, amount: float, unit: str) -> None:
        """Take an amount, all or nothing; more than a minute's worth is taken when nothing was taken for a minute.

        Raises:
            Overloaded: There is not so much left; with the seconds until there is.
        """
        now = time.monotonic()
        self.left = min(self.per_minute, self.left + (now - self.since) * self.per_minute / MINUTE)
        self.since = now
        missing = min(amount, self.per_minute) - self.left
        if missing > 0:
            seconds = missing * MINUTE / self.per_minute
            raise Overloaded(
                f"your key has used up its {self.per_minute} {unit} a minute: try again in {seconds:.1f} s",
                retry_after=seconds,
            )
        self.left -= amount


@dataclass(kw_only=True)
class ApiKey:
    """A key, by its hash."""

    name: str
    sha256: str
    admin: bool = False
    requests: Allowance | None = None
    tokens: Allowance | None = None

    def entry(self) -> dict[str, Any]:
        """Return the key's entry in the file of keys."""
        limits = {"requests_per_minute": self.requests, "tokens_per_minute": self.tokens}
        given = {name: limit.per_minute for name, limit in limits.items() if limit is not None}
        return {"sha256": self.sha256, "admin": self.admin, **given}


@dataclass
class ApiKeys:
    """The keys of a server; a reload changes `by_name`."""

    by_name: dict[str, ApiKey] = field(default_factory=dict)

    def authenticate(self, presented: str | None) -> ApiKey:
        """Return the key that a client presents, and count the request.

        Raises:
            NotAuthenticated: It presents none, or one that is unknown.
            Overloaded: The key has used up its requests.
        """
        if not presented:
            raise NotAuthenticated("this server needs an API key: send it as Authorization: Bearer KEY")
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        # All are compared, each in constant time, so that the time tells nothing of them.
        found = [key for key in self.by_name.values() if hmac.compare_digest(key.sha256, digest)]
        if not found:
            raise NotAuthenticated("the API key is unknown")
        if found[0].requests is not None:
            found[0].requests.take(1, "requests")
        return found[0]

    def replace(self, keys: dict[str, ApiKey]) -> None:
        """Take over other keys; one whose allowances are the same has as much left of them as before."""
        for name, key in keys.items():
            before = self.by_name.get(name)
            for kind in ("requests", "tokens"):
                new, old = getattr(key, kind), getattr(before, kind, None)
                if new is not None and old is not None and new.per_minute == old.per_minute:
                    setattr(key, kind, old)
        self.by_name = keys


client_key: ContextVar[ApiKey | None] = ContextVar("client_key", default=None)
"""The key of the request that is being answered; None on a server without keys."""


def presented_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key in the header `Authorization: Bearer KEY` or `X-API-Key: KEY`, whose names are in lower case."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        key = headers.get(b"x-api-key", b"")
    return key.strip().decode("utf-8", "surrogateescape") or None


def tenant_of(adapter: str) -> str:
    """Return the owner of a request's turns: its key, or its adapter on a server without keys."""
    key = client_key.get()
    return adapter if key is None else key.name


def has_key() -> bool:
    """Return True for a request on a server with keys."""
    return client_key.get() is not None


def check_waiting(mine: int, more: int, limit: int) -> None:
    """Raise Overloaded if a key would fill more than half of a queue; a request that finds none of its own may.

    Args:
        mine: Rows of the key that wait.
        more: Rows of the request.
        limit: Rows that the queue holds.
    """
    if has_key() and mine and mine + more > limit // 2:
        raise Overloaded(
            f"{mine} texts of your key wait already, and a key may fill half of the queue: try again later"
        )


def take_tokens(count: int) -> None:
    """Count tokens for the key of the request. Raises Overloaded if it has used up its allowance."""
    key = client_key.get()
    if key is not None and key.tokens is not None:
        key.tokens.take(count, "tokens")


def require_admin() -> None:
    """Raise NotAllowed on a server with keys, unless the request's key is an administrator's."""
    key = client_key.get()
    if key is not None and not key.admin:
        raise NotAllowed("your API key is not an administrator's (admin = true in the file of --api-keys)")


def read_api_keys(file: Path) -> dict[str, ApiKey]:
    """Return the keys in a TOML file by their names.

    Raises:
        ConfigurationError: It cannot be read, has no key, or an entry is wrong.
    """
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    return api_keys_from(content, file)


def api_keys_from(content: Mapping[str, Any], file: Path) -> dict[str, ApiKey]:
    """Return the keys of the entries of a file by their names, with full allowances; see `read_api_keys`."""
    if not content:
        raise ConfigurationError(f"{file} has no API key: nobody could ask anything")
    keys = {name: _key(file, name, entry) for name, entry in content.items()}
    if len({key.sha256 for key in keys.values()}) < len(keys):
        raise ConfigurationError(f"{file}: two names have the same key")
    return keys


def _key(file: Path, name: str, entry: Any) -> ApiKey:
    if not name.isprintable():
        raise ConfigurationError(f"{file}: {shortened(ascii(name), 64)} is no name for a key: use printable characters")
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{file}: {name} is no table: give each key one, as [{name}]")
    known: dict[str, Any] = {"sha256": str, "admin": bool, "requests_per_minute": int, "tokens_per_minute": int}
    for field_name, value in entry.items():
        if field_name not in known:
            raise ConfigurationError(
                f"{file}: {name} has an unknown field {_shown(field_name)}; known are {', '.join(known)}"
            )
        if type(value) is not known[field_name] or (type(value) is int and not 0 < value <= MOST):
            what = {str: "a text", bool: "true or false", int: f"a whole number from 1 to {MOST}"}[known[field_name]]
            raise ConfigurationError(f"{file}: {field_name} of {name} is {_shown(value)}, not {what}")
    if not SHA256.fullmatch(entry.get("sha256", "")):
        raise ConfigurationError(f"{file}: {name} needs sha256, 64 lower-case hexadecimal digits: the hash of its key")
    requests, tokens = entry.get("requests_per_minute"), entry.get("tokens_per_minute")
    return ApiKey(
        name=name,
        sha256=entry["sha256"],
        admin=entry.get("admin", False),
        requests=None if requests is None else Allowance(requests),
        tokens=None if tokens is None else Allowance(tokens),
    )


def _shown(value: Any) -> str:
    """Return a value as an error shows it; Python writes out no number of more than 4,300 digits."""
    if isinstance(value, str) and value.isprintable():
        return shortened(value, 32)
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return shortened(ascii(value), 32)
