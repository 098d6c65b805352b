"""Text output of the commands: tables and sizes."""

from collections.abc import Mapping, Sequence

from adamix_export.parity.bounds import Bounds
from adamix_export.parity.report import Parity, describe_bounds


def parity_table(reports: Mapping[str, Parity]) -> str:
    """Return the reports as a text table, one line for each adapter, and the bounds of inexact precisions below it."""
    lines = [f"{'adapter':<16} {'rows':>5} {'max diff':>9} {'equal':>8} {'PyTorch':>8} {'ONNX':>8}  metric, data"]
    for name, report in reports.items():
        metrics = [f"{'-' if value is None else format(value, '.4f'):>8}" for value in (report.pytorch, report.onnx)]
        lines.append(
            f"{name:<16} {report.rows:>5} {report.max_difference:>9.1e} {report.equal_labels:>8.2%} "
            f"{' '.join(metrics)}  {report.metric}, {report.data}"
        )
    for name, report in reports.items():
        if report.bounds.min_agreement < Bounds().min_agreement:
            lines.append(f"{name} was held to: {describe_bounds(report)}")
    if any(report.pytorch is None for report in reports.values()):
        lines.append("'-': no labelled texts were found; name a file with --data to compare the metric as well")
    return "\n".join(lines)


def size_text(count: int) -> str:
    """Return a number of bytes with its unit, in powers of ten."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return one line for each row, with the cells of a column left-aligned below each other."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
