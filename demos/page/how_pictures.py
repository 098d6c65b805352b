"""Pictures of the mixture, the collapse and the bank, as SVG in the page's own colours."""

from collections.abc import Sequence

from demos.page import markup

WIDTH, HEIGHT = 360, 170
MOST_DRAWN = 6
"""Modules that a picture has room for."""


def mixture_picture(modules: int) -> str:
    """Return a frozen layer with its modules, of which a step has drawn one."""
    parts = [_box(10, 60, 90, 50, "frozen layer"), _text(55, 140, "never trained")]
    drawn = min(modules, MOST_DRAWN)
    for number, y in enumerate(_rows(drawn)):
        parts.append(_box(190, y, 120, 20, f"module {number + 1}", strong=number == 1 % drawn))
        parts.append(_line(100, 85, 190, y + 10, strong=number == 1 % drawn))
    if modules > drawn:
        parts.append(_text(250, HEIGHT - 4, f"and {modules - drawn} more"))
    return _svg(
        parts,
        f"A frozen layer with {markup.count(modules, 'module')} beside it; a training step goes through one of them",
    )


def collapse_picture(modules: int) -> str:
    """Return modules whose weights are averaged into one."""
    drawn = min(modules, MOST_DRAWN)
    parts = []
    for number, y in enumerate(_rows(drawn)):
        parts.append(_box(10, y, 100, 20, f"module {number + 1}"))
        parts.append(_line(110, y + 10, 230, 85))
    parts += [_text(290, 56, "mean" if modules > 1 else "the same"), _box(230, 65, 120, 40, "one adapter", strong=True)]
    if modules < 2:
        return _svg(parts, "One module is the one adapter")
    return _svg(parts, f"The weights of {modules} modules are averaged into one adapter")


def bank_picture(names: Sequence[str], *, more: int) -> str:
    """Return rows of a batch, each of which goes through its own adapter on one base."""
    parts = [_box(120, 5, 235, HEIGHT - 25, ""), _text(180, HEIGHT / 2, "one base")]
    for name, y in zip(names, _rows(len(names)), strict=True):
        short = name if len(name) <= 14 else f"{name[:13]}…"
        parts += [_box(10, y, 60, 20, "a row"), _line(70, y + 10, 120, y + 10)]
        parts.append(_box(245, y, 100, 20, short, strong=True))
    if more:
        parts.append(_text(300, HEIGHT - 4, f"and {more} more"))
    return _svg(parts, f"Rows of one batch go through one base, each through its own adapter: {', '.join(names)}")


def _rows(count: int) -> list[float]:
    """Return the tops of boxes that share the height."""
    step = (HEIGHT - 30) / max(count, 1)
    return [10 + step * number + (step - 20) / 2 for number in range(count)]


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<div class="adamix-picture"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{markup.escape(label)}">{"".join(parts)}</svg></div>'
    )


def _box(x: float, y: float, width: float, height: float, text: str, *, strong: bool = False) -> str:
    stroke, thick = ("var(--bar)", 2.5) if strong else ("currentColor", 1)
    return (
        f'<rect x="{x}" y="{y:.1f}" width="{width}" height="{height}" rx="4" fill="none" stroke="{stroke}" '
        f'stroke-width="{thick}"/>{_text(x + width / 2, y + height / 2 + 4, text)}'
    )


def _line(x1: float, y1: float, x2: float, y2: float, *, strong: bool = False) -> str:
    stroke, thick = ("var(--bar)", 2.5) if strong else ("currentColor", 1)
    return f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{thick}"/>'


def _text(x: float, y: float, text: str) -> str:
    style = 'font-size="12" text-anchor="middle" fill="currentColor"'
    return f'<text x="{x}" y="{y:.1f}" {style}>{markup.escape(text)}</text>'
