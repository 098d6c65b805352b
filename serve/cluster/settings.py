"""Settings of a deployment on a cluster, and those of adamix-serve that its servers have."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from serve.args import make_parser
from serve.errors import ConfigurationError
from serve.settings import given_settings

ROUTE_BY = ("header", "body")
MEANINGLESS: dict[str, str] = {
    "workers": "--max-replicas says how many servers there are",
    "grpc_port": "the proxies of Ray Serve here speak HTTP alone",
    "tls_cert": "put TLS before the cluster",
    "tls_key": "put TLS before the cluster",
    "check": "run adamix-serve --check on a machine that has the bundle",
    "json": "run adamix-serve --check on a machine that has the bundle",
    "config": "give the flags themselves, which --print-config writes down",
}
"""Flags of adamix-serve that a cluster has no use for, with what to do."""
COUNTS = ("min_replicas", "max_replicas", "max_requests")
AMOUNTS: dict[str, float] = {
    "target_requests": 0.001,
    "scale_up_secs": 0.0,
    "scale_down_secs": 0.0,
    "cpus_per_replica": 0.0,
    "gpus_per_replica": 0.0,
}
"""Least values of settings that are finite numbers; `COUNTS` are whole ones from 1 on."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Settings of a deployment."""

    name: str = "adamix"
    """Name of the application on the cluster."""
    route_by: str = "header"
    """Where the adapter of a request is read: in a header, by Ray's proxy, or in its body, by a front before it."""
    min_replicas: int = 1
    max_replicas: int = 1
    target_requests: float = 8.0
    """Requests for each replica that autoscaling aims at."""
    scale_up_secs: float = 10.0
    """Seconds for which there have to be more of them before replicas are added."""
    scale_down_secs: float = 300.0
    """Seconds for which there have to be fewer before replicas are stopped."""
    max_requests: int = 256
    """Requests that a replica is sent at a time; more wait in the proxy."""
    cpus_per_replica: float = 1.0
    gpus_per_replica: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigurationError(f"--name is {self.name!r}: give the application a name")
        for field in COUNTS:
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"{_flag(field)} is {value!r}; it takes a whole number from 1 on")
        for field, least in AMOUNTS.items():
            value = getattr(self, field)
            if type(value) not in (int, float) or not least <= value < float("inf"):
                raise ConfigurationError(f"{_flag(field)} is {value!r}; it takes a number from {least:g} on")
        if self.route_by not in ROUTE_BY:
            raise ConfigurationError(f"--route-by is {self.route_by!r}; it takes {' or '.join(ROUTE_BY)}")
        if self.min_replicas > self.max_replicas:
            raise ConfigurationError(
                f"--min-replicas {self.min_replicas} is more than --max-replicas {self.max_replicas}: raise the latter"
            )


def command_line(settings: Mapping[str, Any]) -> tuple[ClusterSettings, list[str]]:
    """Return the settings of a deployment, and the command line of its servers, from flags by name.

    Raises:
        ConfigurationError: A flag is unknown or wrong, or means nothing on a cluster.
    """
    own = {field.name for field in fields(ClusterSettings)}
    given = {name.replace("-", "_"): value for name, value in settings.items()}
    try:
        cluster = ClusterSettings(**{name: value for name, value in given.items() if name in own})
    except TypeError as error:
        raise ConfigurationError(f"the settings of the deployment: {error}") from error
    argv = list(_words({name: value for name, value in given.items() if name not in own}))
    check_flags(argv)
    return cluster, argv


def check_flags(argv: Sequence[str]) -> dict[str, Any]:
    """Return the settings that a command line of the servers gives.

    Raises:
        ConfigurationError: A flag is unknown or wrong, or means nothing on a cluster.
    """
    parser = make_parser(exit_on_error=False)
    try:
        unknown = parser.parse_known_args(argv)[1]
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"the settings of the servers: {error}") from error
    if unknown:
        raise ConfigurationError(f"unknown setting {unknown[0]}: adamix-serve --help lists those of the servers")
    given = given_settings(parser, argv)
    for name in sorted(given.keys() & MEANINGLESS.keys()):
        raise ConfigurationError(f"{_flag(name)} means nothing on a cluster: {MEANINGLESS[name]}")
    return given


def as_settings(cluster: ClusterSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings as `command_line` takes them, in values of YAML; paths are absolute."""
    return {**asdict(cluster), **{name: _plain(value) for name, value in given.items()}}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value.absolute())
    return value if isinstance(value, bool | int | float) else str(value)


def _words(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of a command line."""
    for name, value in settings.items():
        if name == "bundles":
            continue
        flag = _flag(name)
        if value is True:
            yield flag
        elif value is not False and value is not None:
            yield from (f"{flag}={one}" for one in (value if isinstance(value, list) else [value]))
    bundles = settings.get("bundles", [])
    yield from map(str, bundles if isinstance(bundles, list) else [bundles])
