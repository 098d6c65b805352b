"""The results of a run: one JSON object and one table, written anew after each part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamix_train.artifacts.atomic_write import write_json, write_text
from benchmarks.gpu.goals import goals_of
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.setting import NO_CARD, Setting
from benchmarks.support.errors import BenchmarkError
from benchmarks.support.machine import describe_machine
from benchmarks.support.report import Goal, table

DONE, CUT, FAILED = "done", "cut off", "failed"
"""States of a part; one that was cut off has measured a part of its cases."""
REHEARSAL = "REHEARSAL: its times mean nothing, and no goal is held against them."
Record = dict[str, Any]
"""A part's state, seconds, and outcome or error."""


@dataclass(kw_only=True)
class Results:
    """Records of the parts that have run."""

    setting: Setting
    command: str
    parts: dict[str, Record] = field(default_factory=dict)

    @property
    def cards(self) -> list[str]:
        """Names of the GPUs that the parts ran on."""
        found = dict.fromkeys(record["card"] for record in self.parts.values() if record["state"] != FAILED)
        return [card for card in found if card != NO_CARD] or [NO_CARD]

    @property
    def goals(self) -> list[Goal]:
        """All goals; without a GPU none is measured."""
        figures: dict[str, float] = {}
        for record in self.parts.values():
            figures |= record.get("figures", {})
        return goals_of(figures if self.setting.counts else {})

    def is_done(self, name: str) -> bool:
        """Return True if a part has run to its end."""
        return self.parts.get(name, {}).get("state") == DONE

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": "gpu",
            "cards": self.cards,
            "provider": self.setting.provider,
            "tiny": self.setting.tiny,
            "command": self.command,
            "machine": describe_machine(),
            "goals": [goal.as_dict() for goal in self.goals],
            "parts": self.parts,
        }

    def as_markdown(self) -> str:
        """Return the cards, the goals and a table for each part."""
        head = [
            f"# GPU: {', '.join(self.cards)}",
            *([] if self.setting.counts else [REHEARSAL]),
            f"`{self.command}`",
            _listed(describe_machine()),
            "\n".join(f"- {goal}" for goal in self.goals),
        ]
        return "\n\n".join([*head, *(_section(name, record) for name, record in self.parts.items())]) + "\n"

    def save(self, file: Path) -> None:
        """Write the JSON object to `file` and the tables beside it."""
        self.parts = {name: self.parts[name] for name in PARTS if name in self.parts}
        write_json(file, self.as_dict())
        write_text(file.with_suffix(".md"), self.as_markdown())


def load_parts(file: Path, setting: Setting) -> dict[str, Record]:
    """Return the records of an earlier call; empty if there was none.

    Raises:
        BenchmarkError: The file is of another provider, of a rehearsal, or no result of this benchmark.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
        parts: dict[str, Record] = content["parts"]
        found = (content["provider"], content["tiny"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{file} is no result of this benchmark: name another file with --json") from error
    if found != (setting.provider, setting.tiny):
        kind = "a rehearsal" if found[1] else "a run"
        raise BenchmarkError(f"{file} has the results of {kind} with {found[0]}: name another file with --json")
    return {name: record for name, record in parts.items() if name in PARTS}


def _section(name: str, record: Mapping[str, Any]) -> str:
    lines = [f"## {name}: {record['state']}, {record['seconds']:.0f} s"]
    if record["state"] != DONE:
        lines.append(f"**{record['state'].upper()}:** {record['error']}")
    if record["state"] == FAILED:
        return "\n\n".join(lines)
    rows: Sequence[dict[str, object]] = record["rows"]
    lines += [f"Card: {record['card']}", table(rows), " ".join(record["notes"])]
    lines += [f"ABSENT: {absent['peer']}: {absent['reason']}" for absent in record["absent"]]
    lines += [_listed(record["versions"])]
    return "\n\n".join(line for line in lines if line)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
