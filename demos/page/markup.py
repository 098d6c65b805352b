"""Pieces of HTML that the tabs are made of; every text in them is escaped."""

import html
from collections.abc import Iterable, Sequence

TEMPLATE_SIGNS = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})
"""Signs that Gradio's templates give a meaning."""


def escape(text: object) -> str:
    """Return a text that stands for itself in HTML and in Gradio's templates."""
    return html.escape(str(text)).translate(TEMPLATE_SIGNS)


def error(message: object) -> str:
    """Return an error, which screen readers read at once."""
    return f'<div class="adamix-error" role="alert"><strong>That did not work.</strong> {escape(message)}</div>'


def hint(text: str) -> str:
    """Return a remark, or what stands where there is nothing yet."""
    return f'<p class="adamix-hint" role="status">{escape(text)}</p>'


def progress(done: int, total: int, *, label: str) -> str:
    """Return a progress bar."""
    return (
        f'<div class="adamix-progress"><label>{escape(label)} '
        f'<progress max="{max(total, 1)}" value="{done}">{done} of {total}</progress></label></div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, label: str) -> str:
    """Return a table of escaped cells that scrolls by itself on a narrow screen; the first column names the row."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="adamix-scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bars(scores: Iterable[tuple[str, float]], *, top: float = 1.0) -> str:
    """Return one bar for each label and its share, of which `top` fills the bar."""
    items = "".join(
        f'<li><span class="adamix-label">{escape(label)}</span><span class="adamix-track" aria-hidden="true">'
        f'<span style="width:{100 * min(max(share / top, 0), 1):.1f}%"></span></span>'
        f'<span class="adamix-share">{100 * share:.1f}&nbsp;%</span></li>'
        for label, share in scores
    )
    return f'<ul class="adamix-bars">{items}</ul>'


def card(title: str, body: str, *, note: str = "") -> str:
    """Return a titled box; `body` is HTML, title and note are texts."""
    end = f'<p class="adamix-note">{escape(note)}</p>' if note else ""
    return f'<section class="adamix-card"><h3>{escape(title)}</h3>{body}{end}</section>'


def cards(items: Iterable[str]) -> str:
    """Return boxes side by side, below each other on a narrow screen."""
    return f'<div class="adamix-cards">{"".join(items)}</div>'


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def byte_size(number: int | None) -> str:
    """Return a number of bytes for people; a dash if it is not known."""
    if number is None:
        return "–"
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
