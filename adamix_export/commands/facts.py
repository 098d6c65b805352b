"""Flags that state what a checkpoint of another tool does not."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import CARD


def _labels(text: str) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in text.split(","))
    if not all(labels):
        raise ExportError(f"{text!r} (--labels) has an empty label: give names separated by commas")
    return labels


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ExportError(f"{text} (--max-length, --rank) is not a whole number above 0")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ExportError(f"{text} (--rank-energy) is not a share above 0 and up to 1")
    return share


FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "labels": (_labels, "names of the labels, separated by commas, in the order of the logits (default: the base's)"),
    "task": (str, "task of adamix-train that it was trained for, such as pair-classification (default: as it says)"),
    "max_length": (_count, "tokens to which inputs are truncated (default: as many as its base has positions for)"),
    "rank": (
        _count,
        "shape bank: rank of the LoRA that stands for a method that a bank does not hold exactly; --tolerance and "
        "--max-metric-drop bound what that may lose (default: refuse it)",
    ),
    "rank_energy": (
        _share,
        "the same, with as many ranks in each layer as keep this share of its change's sum of squares, such as 0.99; "
        "with --rank, at most so many",
    ),
    "prompt": (str, "template of a generator's prompt; {input} stands for the client's text (default: {input})"),
}
"""Field of `Facts` → function that reads its value, and help."""


FREE = ("prompt",)
"""Facts whose values may have an equals sign in them."""


def add_fact_flags(parser: ArgumentParser) -> None:
    """Add a flag for each fact; each may be given once for all checkpoints, and once for each by name."""
    group = parser.add_argument_group(
        "for PEFT checkpoints and whole models, which do not state it; NAME= gives it to one of several"
    )
    for name, (_, help_) in FLAGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", action="append", default=[], metavar="[NAME=]…", help=help_)


def read_facts(args: Namespace, names: Sequence[str]) -> dict[str, Facts]:
    """Return the facts of each checkpoint in `names`; one that is given by name goes before one for all."""
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for fact, (read, _) in FLAGS.items():
        given = [_split(text, names) for text in getattr(args, fact)]
        for owner, text in sorted(given, key=lambda pair: pair[0] is not None):
            if owner is None and fact not in FREE and "=" in text:
                raise ExportError(
                    f"--{fact.replace('_', '-')} {text}: {text.partition('=')[0]} is no checkpoint; there are "
                    f"{', '.join(names)}"
                )
            for name in names if owner is None else (owner,):
                found[name][fact] = read(text)
    return {name: Facts(**facts) for name, facts in found.items()}


def require_used(facts: Facts, folder: Path, shape: str) -> None:
    """Raise an `ExportError` for facts of a run of adamix-train, which states its own, or without use in a shape."""
    given = [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(facts, name) is not None]
    if given and (folder / CARD).is_file():
        raise ExportError(
            f"{folder} is a run of adamix-train, which states its own: leave out {' and '.join(given)}, or give it to "
            "another checkpoint by name, NAME=…"
        )
    if shape == "merged" and (facts.rank or facts.rank_energy):
        raise ExportError(
            "--rank and --rank-energy approximate what a bank cannot hold; merged is exact: leave them out, or give "
            "--shape bank"
        )


def _split(text: str, names: Sequence[str]) -> tuple[str | None, str]:
    """Split `NAME=VALUE` if NAME is one of `names`; None stands for all of them."""
    name, _, value = text.partition("=")
    return (name, value) if name in names else (None, text)
