"""Flags of several workers."""

import argparse

from serve.errors import ConfigurationError
from serve.flag_types import positive, positive_seconds
from serve.runtime.providers import usable_cores

WORKERS_PER_CORE, ALWAYS_ALLOWED = 4, 8
"""Most workers for each core that the server may use, and the number that a small machine may have as well. More only
take memory, and turns from each other."""


def add_worker_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how many processes serve, and when one of them is taken to hang."""
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        help="processes that serve the same port, each pinned to its share of the cores, at most four for each core; "
        "limits of queues, batches and tokens are those of each (default: %(default)s)",
    )
    parser.add_argument(
        "--worker-timeout-secs",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="with --workers: seconds after which a worker that hangs is replaced (default: %(default)g)",
    )


def check_worker_settings(args: argparse.Namespace) -> None:
    """Raise a ConfigurationError for settings that several workers cannot have."""
    cores = usable_cores()
    most = max(ALWAYS_ALLOWED, WORKERS_PER_CORE * cores)
    if args.workers > most:
        raise ConfigurationError(
            f"--workers {args.workers} is more than the {most} that a server with {cores} cores may have: give "
            f"{cores}, one for each core, or fewer"
        )
    if args.workers > 1 and args.grpc_port == 0:
        raise ConfigurationError("--grpc-port 0 would give each of the --workers a port of its own: name one")
