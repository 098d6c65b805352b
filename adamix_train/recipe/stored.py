"""Recipes as earlier versions stored them in checkpoints and run folders."""

from collections.abc import Mapping
from typing import Any

RENAMED = {"move_unselected": "update_unselected"}
"""Former name of a recipe's field → its name now."""

BEFORE = {"routing": "batch", "consistency_from": 0.0, "labels_on": "first"}
"""Settings of a run that was begun before these fields were chosen, or were there."""


def current_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored recipe's fields under their current names."""
    return {RENAMED.get(name, name): value for name, value in stored.items()}


def fields_of_run(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a run stored under their current names, and what it did where it has none."""
    return BEFORE | current_fields(stored)
