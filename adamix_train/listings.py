"""Tables that `adamix-train --list` prints, none of which needs torch."""

import ast
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from adamix_train.mixture.kinds import KINDS
from adamix_train.peft_method.target_modules import FAMILIES, Family, Fused
from adamix_train.tasks.table import TASKS

Listing = dict[str, dict[str, str]]
"""Name → columns."""


def tasks() -> Listing:
    """Return the tasks: kind, columns of their data, metrics, and their set on the Hub."""
    return {
        name: {
            "kind": task.kind,
            "columns": ", ".join((*task.inputs, task.target)),
            "metrics": ", ".join(task.metrics),
            "hub": "" if task.hub is None else "/".join(filter(None, (task.hub.path, task.hub.config))),
        }
        for name, task in TASKS.items()
    }


def families() -> Listing:
    """Return the families of models: patterns of the layers at each site."""
    return {
        name: {site.name: _pattern(family, site.name) for site in fields(Family)} for name, family in FAMILIES.items()
    }


def kinds() -> Listing:
    """Return the adapter kinds: the first line of each module."""
    return {name: {"adapter": _first_line(place.partition(":")[0])} for name, place in KINDS.items()}


LISTINGS: dict[str, Callable[[], Listing]] = {"tasks": tasks, "families": families, "kinds": kinds}
"""Values of --list."""


def as_table(listing: Listing, heading: str) -> str:
    """Return a listing as aligned columns under their names; columns that are empty throughout are left out."""
    names = [name for name in next(iter(listing.values())) if any(row[name] for row in listing.values())]
    rows = [(heading, *names), *((name, *(row[one] for one in names)) for name, row in listing.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _pattern(family: Family, site: str) -> str:
    found: str | Fused = getattr(family, site)
    if isinstance(found, str):
        return found
    return f"{found.pattern} (parts {', '.join(map(str, found.blocks))} of {found.count})"


def _first_line(module: str) -> str:
    """Return the first line of a module's docstring, without importing the module."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8")))
    assert text is not None
    return text.splitlines()[0]
