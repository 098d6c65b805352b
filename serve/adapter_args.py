"""Flags of adamix-serve on adapters beside those of the bundles."""

import argparse
from collections.abc import Callable
from pathlib import Path

from serve.lookup import MOST_ADAPTERS

Number = Callable[[str], float]
"""Reads a number from a flag's text."""


def add_adapter_flags(parser: argparse.ArgumentParser, *, count: Number, seconds: Number) -> None:
    """Add the flags on adapters.

    Args:
        parser: Parser of the command line.
        count: Reads a whole number above 0.
        seconds: Reads a number of seconds above 0.
    """
    parser.add_argument(
        "--adapter", type=Path, action="append", default=[], metavar="FOLDER", help="load a standalone adapter as well"
    )
    parser.add_argument(
        "--adapter-dir",
        type=_folder,
        metavar="FOLDER",
        help="let clients load, replace and unload adapters below this folder (default: they may not)",
    )
    parser.add_argument(
        "--adapter-watch",
        type=seconds,
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
        type=count,
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


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)
