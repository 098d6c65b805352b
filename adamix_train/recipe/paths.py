"""Absolute paths in a recipe, so that a run can be read from any working folder."""

from pathlib import Path
from typing import Any

FILES = ("train_file", "validation_file", "test_file")
"""Fields that name files, several separated by commas."""
FOLDERS = ("base", "init_from")
"""Fields that name a folder; a base may be a Hub id instead."""


def file_names(names: str) -> list[str]:
    """Return the names in a list that is separated by commas."""
    return [name.strip() for name in names.split(",")]


def absolute_paths(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields, in which the names of files and of folders that exist are absolute."""
    found = dict(fields)
    for name in FILES:
        if found.get(name):
            found[name] = ",".join(str(Path(file).absolute()) for file in file_names(found[name]))
    for name in FOLDERS:
        if found.get(name) and (folder := Path(found[name]).expanduser()).is_dir():
            found[name] = str(folder.absolute())
    return found
