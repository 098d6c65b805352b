"""Flags of adamix-serve on adapters beside those of the bundles."""

import argparse
from pathlib import Path

from serve.flag_types import folder, positive, positive_seconds
from serve.lookup import MOST_ADAPTERS


def add_adapter_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags on adapters."""
    parser.add_argument(
        "--adapter", type=Path, action="append", default=[], metavar="FOLDER", help="load a standalone adapter as well"
    )
    parser.add_argument(
        "--adapter-dir",
        type=folder,
        metavar="FOLDER",
        help="let clients load, replace and unload adapters below this folder (default: they may not)",
    )
    parser.add_argument(
        "--adapter-watch",
        type=positive_seconds,
        metavar="SECONDS",
        help="look at the folders directly below --adapter-dir this often, and load, replace and unload what appears, "
        "changes and vanishes there (default: do not)",
    )
    parser.add_argument(
        "--adapter-lookup",
        action="store_const",
        const=True,
        help="load an adapter when a request names it first, from the folder of its name in --adapter-dir; "
        "--adapter-watch then keeps those that are loaded up to date, and loads no others",
    )
    parser.add_argument(
        "--max-lookup-adapters",
        type=positive,
        default=MOST_ADAPTERS,
        help="adapters loaded by --adapter-lookup; beyond that the one that was not used for longest is unloaded "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="NAME",
        help="keep this adapter in its slot and in host memory, however long ago it was used; repeatable, or NAME,NAME",
    )


def pinned_names(values: list[str]) -> frozenset[str]:
    """Return the names that --pin gives."""
    return frozenset(name.strip() for value in values for name in value.split(",") if name.strip())
