"""The report of a benchmark: one JSON object for programs, a table for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure and what it should be."""

    what: str
    value: float | None
    """None where it could not be measured, which is not met."""
    goal: float
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool:
        """The value reaches the goal."""
        if self.value is None:
            return False
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        """Return the goal as the JSON object has it."""
        return {**asdict(self), "met": self.met}

    def __str__(self) -> str:
        bound = "at least" if self.better == "higher" else "at most"
        value = "not measured" if self.value is None else f"{self.value:.3f}"
        return f"{'met' if self.met else 'MISSED'}: {self.what}: {value} (goal: {bound} {self.goal:g})"


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A peer that was not measured."""

    peer: str
    reason: str
    """The reason, and what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Findings of a benchmark; the harness adds its name, the machine and the command."""

    goals: Sequence[Goal]
    rows: Sequence[Row]
    """Flat and all with the same keys, in the order of the table's columns."""
    versions: dict[str, str]
    worst: str
    """The worst ratio and its case, as people read it."""
    absent: Sequence[Absent] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Findings with what is needed to repeat them."""

    name: str
    command: str
    machine: dict[str, object] = field(default_factory=dict)
    findings: Findings

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "name": self.name,
            "machine": self.machine,
            "versions": self.findings.versions,
            "command": self.command,
            "goals": [goal.as_dict() for goal in self.findings.goals],
            "rows": list(self.findings.rows),
            "absent": [asdict(absent) for absent in self.findings.absent],
        }

    def as_json(self) -> str:
        """Return the JSON object as text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def as_text(self) -> str:
        """Return command, machine, versions, table, goals, absent peers and, last, the worst ratio."""
        findings = self.findings
        paragraphs = [
            self.command,
            "machine: " + _listed(self.machine),
            "versions: " + _listed(findings.versions),
            table(findings.rows),
            "\n".join(f"goal {goal}" for goal in findings.goals),
            "\n".join(f"ABSENT: {absent.peer}: {absent.reason}" for absent in findings.absent),
            f"worst ratio: {findings.worst}",
        ]
        return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table with aligned columns."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    head, *body = ["| " + " | ".join(map(str.rjust, line, widths)) + " |" for line in cells]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([head, rule, *body])


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
