"""Draw the pictures of the documentation as SVG, for light and for dark pages: python -m docs.draw_pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 960, 372
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
PANELS = (16, 340, 580)
"""Left edges of the three panels."""


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of a picture."""

    page: str
    line: str
    """Borders and arrows."""
    ink: str
    soft: str
    """Text of less weight."""
    frozen: str
    """Fill of what is not trained."""
    adapters: tuple[str, ...]
    """Fills of adapters, by task."""
    on_adapter: str
    """Text on an adapter."""


PALETTES: dict[str, Palette] = {
    "light": Palette(
        page="#ffffff",
        line="#8c959f",
        ink="#1f2328",
        soft="#59636e",
        frozen="#e7ecf1",
        adapters=("#2f6fde", "#c2571a", "#1c8561"),
        on_adapter="#ffffff",
    ),
    "dark": Palette(
        page="#0d1117",
        line="#6e7681",
        ink="#f0f6fc",
        soft="#9198a1",
        frozen="#262c36",
        adapters=("#4f8df5", "#e0793a", "#34a97d"),
        on_adapter="#0d1117",
    ),
}
TASKS = ("topic", "tone", "intent")
"""Names of the adapters in the bank, in the order of their colours."""
ROUTE = (1, 3)
"""The modules that the two views of a step go through in the picture."""


def overview(palette: Palette) -> str:
    """Return the picture of the project: a mixture while training, one adapter, many adapters in one batch."""
    parts = [
        _titled(PANELS[0], "Train", "a mixture", palette),
        *_mixture(palette),
        _titled(PANELS[1], "Collapse", "one adapter", palette),
        *_collapse(palette),
        _titled(PANELS[2], "Serve", "many adapters, one batch", palette),
        *_bank(palette),
    ]
    title = "A mixture of modules while training, one adapter after it, many adapters in one batch when serving"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{title}" font-family="{FONT}">\n<title>{title}</title>\n'
        + _head(palette)
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _head(palette: Palette) -> str:
    return (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0.5 L7,4 L0,7.5 z" fill="{palette.line}"/></marker></defs>\n'
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="12" fill="{palette.page}" '
        f'stroke="{palette.line}" stroke-opacity="0.4"/>\n'
    )


def _mixture(palette: Palette) -> list[str]:
    """Draw one layer with four modules beside it, two of which a step goes through."""
    left = PANELS[0]
    parts = [
        _box(left + 8, 92, 92, 184, palette.frozen, palette),
        _text(left + 54, 178, "layer", palette.ink),
        _text(left + 54, 198, "frozen", palette.soft, size=13),
    ]
    for module in range(4):
        top = 92 + 48 * module
        chosen = module in ROUTE
        parts.append(_module(left + 150, top, f"module {module + 1}", palette, colour=0, faint=not chosen))
        if chosen:
            view = ROUTE.index(module) + 1
            parts += [
                _arrow(left + 102, top + 20, left + 146, top + 20, palette),
                _text(left + 262, top + 25, f"view {view}", palette.soft, size=13, anchor="start"),
            ]
    return [
        *parts,
        *_caption(left, ("Each step draws modules at random;", "a consistency loss keeps two draws alike"), palette),
    ]


def _collapse(palette: Palette) -> list[str]:
    """Draw the modules and their mean, which is one adapter."""
    left = PANELS[1]
    parts = [
        _box(left + 14, 92 + 48 * module + 12, 20, 16, palette.adapters[0], palette, radius=4) for module in range(4)
    ]
    parts += [_line(left + 38, 112 + 48 * module, left + 62, 184, palette) for module in range(4)]
    parts += [
        _text(left + 84, 189, "mean", palette.ink, size=13),
        _arrow(left + 104, 184, left + 128, 184, palette),
        _module(left + 132, 164, "topic", palette, colour=0, width=60),
    ]
    return [*parts, *_caption(left, ("Average the weights:", "the cost of one adapter"), palette)]


def _bank(palette: Palette) -> list[str]:
    """Draw three rows of a batch through one graph, each through the slot of its own adapter."""
    left = PANELS[2]
    parts = [
        _box(left + 124, 92, 164, 184, palette.frozen, palette),
        _text(left + 206, 114, "one graph", palette.ink, size=14),
        _text(left + 206, 266, "bank of adapters", palette.soft, size=13),
    ]
    texts, answers = ("“It never came”", "“Lovely!”", "“Where is it?”"), ("delivery", "positive", "question")
    for row, name in enumerate(TASKS):
        middle = 144 + 44 * row
        parts += [
            _text(left + 4, middle + 5, texts[row], palette.ink, size=13, anchor="start"),
            _arrow(left + 110, middle, left + 156, middle, palette),
            _module(left + 160, middle - 17, name, palette, colour=row, width=92, height=34),
            _arrow(left + 254, middle, left + 302, middle, palette),
            _text(left + 306, middle + 5, answers[row], palette.ink, size=13, anchor="start"),
        ]
    return [
        *parts,
        *_caption(left, ("Every row of a batch names its adapter;", "adapters load into slots while it runs"), palette),
    ]


def _titled(left: int, word: str, rest: str, palette: Palette) -> str:
    return (
        f'<text x="{left + 8}" y="46" font-size="18" fill="{palette.ink}"><tspan font-weight="700">{word}</tspan>'
        f'<tspan dx="8" fill="{palette.soft}">{rest}</tspan></text>'
    )


def _caption(left: int, lines: tuple[str, str], palette: Palette) -> list[str]:
    return [
        _text(left + 8, 316 + 20 * number, line, palette.soft, size=14, anchor="start")
        for number, line in enumerate(lines)
    ]


def _module(
    left: int,
    top: int,
    name: str,
    palette: Palette,
    *,
    colour: int,
    faint: bool = False,
    width: int = 104,
    height: int = 40,
) -> str:
    fill = palette.adapters[colour]
    box = _box(left, top, width, height, "none" if faint else fill, palette, stroke=fill, dashed=faint)
    ink = palette.soft if faint else palette.on_adapter
    return box + _text(left + width // 2, top + height // 2 + 5, name, ink, size=14, bold=not faint)


def _box(
    left: int,
    top: int,
    width: int,
    height: int,
    fill: str,
    palette: Palette,
    *,
    radius: int = 8,
    stroke: str | None = None,
    dashed: bool = False,
) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="{radius}" fill="{fill}" '
        f'stroke="{stroke or palette.line}"{dashes}/>'
    )


def _text(x: int, y: int, text: str, fill: str, *, size: int = 15, anchor: str = "middle", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>{text}</text>'


def _line(x1: int, y1: int, x2: int, y2: int, palette: Palette, *, end: str = "") -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{palette.line}" stroke-width="1.5"{end}/>'


_arrow = partial(_line, end=' marker-end="url(#tip)"')
PICTURES: dict[str, Callable[[Palette], str]] = {"overview": overview}


def draw_all(folder: Path = IMAGES) -> None:
    """Write every picture in every palette into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        for theme, palette in PALETTES.items():
            (folder / f"{name}-{theme}.svg").write_text(draw(palette), "utf-8")


if __name__ == "__main__":
    draw_all()
