"""The command adamix-serve deploy: a server as replicas on a Ray cluster."""

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from serve.application import open_bundles
from serve.args import parse_args
from serve.cluster.settings import ROUTE_BY, ClusterSettings, as_settings, check_flags, command_line
from serve.cluster.token import LOCAL, use_token
from serve.errors import ConfigurationError, ServeError
from serve.flag_types import number, positive, seconds

logger = logging.getLogger(__name__)
IMPORT_PATH = "serve.cluster.ray_app:build"
SCALE: dict[str, tuple[Callable[[str], float], str | None, str]] = {
    "min_replicas": (positive, None, "replicas at least"),
    "max_replicas": (positive, None, "replicas at most"),
    "target_requests": (number, None, "requests for each replica, waiting or running, at which replicas are added"),
    "scale_up_secs": (seconds, "SECONDS", "seconds of more requests than that before replicas are added"),
    "scale_down_secs": (seconds, "SECONDS", "seconds of fewer before replicas are stopped"),
    "max_requests": (positive, None, "requests that a replica is sent at a time; others wait before it"),
    "cpus_per_replica": (number, None, "cores that Ray keeps for a replica; give --threads the same"),
    "gpus_per_replica": (number, None, "GPUs that Ray keeps for a replica"),
}
"""Flags of numbers: fields of `ClusterSettings`, with their types, what stands for a value, and what they are."""
EXAMPLE = """\
examples:
  adamix-serve deploy bundles/tenants --adapter-dir adapters --adapter-lookup --ray auto --max-replicas 8
  adamix-serve deploy bundles/tenants --print-config > serve.yaml && serve deploy serve.yaml

All other flags are those of adamix-serve, and each replica has them; --host, --port and --root-path are those of
Ray's proxies. Paths have to lead to the same files on every node. Run the command again to change a deployment:
replicas are replaced one after another, and no request is lost.
"""


def main(argv: Sequence[str]) -> None:
    """Deploy bundles, or print the configuration that does; end the process on an error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        args, rest = _parser().parse_known_args(argv)
        cluster = ClusterSettings(**{name: getattr(args, name) for name in ClusterSettings.__dataclass_fields__})
        given = check_flags(rest)
        if not given.get("bundles"):
            raise ConfigurationError("give a BUNDLE")
        if args.print_config:
            print(as_config(cluster, given), end="")  # noqa: T201
        else:
            _deploy(cluster, given, args.ray)
    except ServeError as error:
        sys.exit(f"adamix-serve deploy: {error}")


def as_config(cluster: ClusterSettings, given: dict[str, Any]) -> str:
    """Return the configuration for Ray's `serve deploy` and for a RayService, in YAML."""
    settings = as_settings(cluster, given)
    http = {"host": settings.pop("host", "0.0.0.0"), "port": settings.pop("port", 8000)}
    application = {
        "name": cluster.name,
        "route_prefix": settings.get("root_path", "/"),
        "import_path": IMPORT_PATH,
        "args": settings,
    }
    document = {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}
    return str(yaml.safe_dump(document, sort_keys=False))


def _deploy(cluster: ClusterSettings, given: dict[str, Any], address: str) -> None:
    """Deploy on a cluster; on a local one, serve until a signal."""
    settings = as_settings(cluster, given)
    open_bundles(parse_args(command_line(settings)[1]))  # replicas would try it again and again
    use_token(address)
    try:
        import ray
        from ray import serve as ray_serve

        from serve.cluster.connection import connect
        from serve.cluster.proxies import start_proxies
        from serve.cluster.ray_app import build
    except ImportError as error:
        raise ConfigurationError(f"deploy needs the extra ray ({error}): run pip install '.[cpu,ray]'") from error
    connect(address, log_to_driver=address == LOCAL)
    for line in missing_room(cluster, ray.nodes()):
        logger.warning("%s", line)
    host, port = start_proxies(given.get("host"), given.get("port"))
    ray_serve.run(build(settings), name=cluster.name, route_prefix=given.get("root_path") or "/")
    logger.info("%s is served on http://%s:%d%s", cluster.name, host, port, given.get("root_path", ""))
    if address == LOCAL:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            ray_serve.shutdown()


def missing_room(cluster: ClusterSettings, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each resource of which a replica needs more than any node has: it waits, and so does Ray.

    Args:
        cluster: Settings of the deployment.
        nodes: Nodes of the cluster, as `ray.nodes` describes them.
    """
    needs = {
        "CPU": ("cpus-per-replica", cluster.cpus_per_replica),
        "GPU": ("gpus-per-replica", cluster.gpus_per_replica),
    }
    found = []
    for name, (flag, amount) in needs.items():
        most = max((one["Resources"].get(name, 0.0) for one in nodes if one["Alive"]), default=0.0)
        if amount > most:
            found.append(f"--{flag} {amount:g} is more than any node has ({most:g}): no replica starts until one joins")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adamix-serve deploy",
        usage="adamix-serve deploy BUNDLE [BUNDLE ...] --ray ADDRESS [flags of adamix-serve]",
        allow_abbrev=False,
        description="Serve bundles by replicas on a Ray cluster, each adapter by the replicas that hold it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = ClusterSettings()
    parser.add_argument(
        "--ray",
        default="auto",
        metavar="ADDRESS",
        help="the cluster: auto (of this node), HOST:6379, or local, one that lives as long as the command "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the configuration for Ray's serve deploy, and deploy nothing"
    )
    parser.add_argument("--name", default=defaults.name, help="name of the application (default: %(default)s)")
    parser.add_argument(
        "--route-by",
        choices=ROUTE_BY,
        default=defaults.route_by,
        help="where the adapter of a request is read: in its body, which takes a front; or in the header "
        "serve_multiplexed_model_id alone (default: %(default)s)",
    )
    for name, (kind, metavar, text) in SCALE.items():
        flag, default = f"--{name.replace('_', '-')}", getattr(defaults, name)
        parser.add_argument(flag, type=kind, default=default, metavar=metavar, help=f"{text} (default: %(default)g)")
    return parser
