"""What the commands print: tables, and sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from adamix_export.parity.comparison import Bounds, Parity


def parity_table(reports: Mapping[str, Parity]) -> str:
    """Return the reports as a table for people."""
    lines = [f"{'adapter':<16} {'rows':>5} {'max diff':>9} {'equal':>8} {'PyTorch':>8} {'ONNX':>8}  metric, data"]
    for name, report in reports.items():
        metrics = [f"{'-' if value is None else format(value, '.4f'):>8}" for value in (report.pytorch, report.onnx)]
        lines.append(
            f"{name:<16} {report.rows:>5} {report.max_difference:>9.1e} {report.equal_labels:>8.2%} "
            f"{' '.join(metrics)}  {report.metric}, {report.data}"
        )
    if any(report.pytorch is None for report in reports.values()):
        lines.append("no labelled texts were found for '-': name a file with --data to compare the metric as well")
    return "\n".join(lines)


def stored_reports(parity: Mapping[str, Mapping[str, Any]]) -> dict[str, Parity]:
    """Return the reports that a manifest keeps."""
    names = {field.name for field in fields(Parity)}
    return {
        adapter: Parity(
            **{name: value for name, value in report.items() if name in names - {"bounds"}},
            bounds=Bounds(**report.get("bounds", {})),
        )
        for adapter, report in parity.items()
    }


def size_text(count: int) -> str:
    """Return a number of bytes for people, in powers of ten."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows as lines in which the cells of a column begin below each other."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
