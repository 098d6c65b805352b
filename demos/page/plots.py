"""Line plots as SVG: light or dark as the page is, with their newest values as text for readers of any kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from demos.page import markup

WIDTH, HEIGHT, LEFT, BOTTOM = 360, 140, 44, 16
DASHES = ("", "6 3", "2 3")
"""Patterns of the lines of a plot, which so differ by more than colour."""
NOTHING_YET = "nothing yet"
"""Stands for the values of a plot that has none."""
Points = Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot; None is a gap."""

    name: str
    points: Points

    @property
    def newest(self) -> float | None:
        """Its last value."""
        return self.points[-1] if self.points else None


def plot(title: str, lines: Sequence[Line], *, unit: str, count: int) -> str:
    """Return a plot of the last `count` values, the newest at the right; without any, it says so.

    The unit stands beside the title, for the numbers of the axis, and behind each newest value.
    """
    top = _round_up(max((point for line in lines for point in line.points if point is not None), default=0.0))
    summary = _summary(lines, unit)
    heading = f"{title}, {unit.strip()}" if unit else title
    grid = "".join(_rule(share, number(top * share)) for share in (0, 0.5, 1))
    paths = "".join(
        f'<path d="{_path(line.points, top, count)}" fill="none" stroke="var(--bar)" stroke-width="2" '
        f'stroke-dasharray="{dash}"/>'
        for line, dash in zip(lines, DASHES, strict=False)
    )
    return (
        f"<figure><figcaption>{markup.escape(heading)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{markup.escape(f"{title}: {summary}")}">'
        f'{grid}{paths}</svg><p class="adamix-note">{markup.escape(summary)}</p></figure>'
    )


def plots(figures: Sequence[str]) -> str:
    """Return plots side by side, below each other on a narrow screen."""
    return f'<div class="adamix-plots">{"".join(figures)}</div>'


def number(value: float | None) -> str:
    """Return a number in at most three digits or so; a dash for none."""
    if value is None:
        return "–"
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _summary(lines: Sequence[Line], unit: str) -> str:
    if all(point is None for line in lines for point in line.points):
        return NOTHING_YET
    return ", ".join(f"{line.name} {number(line.newest)}{unit if line.newest is not None else ''}" for line in lines)


def _rule(share: float, text: str) -> str:
    y = _y(share)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.2"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end" fill="currentColor">{text}</text>'
    )


def _path(points: Points, top: float, count: int) -> str:
    """Return the drawing of a line, with a new stroke behind each gap."""
    step = (WIDTH - LEFT) / max(count - 1, 1)
    parts, pen = [], "M"
    for place, point in enumerate(points[-count:], count - min(len(points), count)):
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{LEFT + place * step:.1f} {_y(point / top if top else 0):.1f}")
        pen = "L"
    return " ".join(parts)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - 2 * BOTTOM)


def _round_up(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is at least `value`; 1 for zero."""
    power = 1e-6
    while value > 0 and power < 1e12:
        for factor in (1, 2, 5):
            if factor * power >= value:
                return factor * power
        power *= 10
    return 1.0
