"""The parts of a tab that follow what the server has: pickers of adapters, and views of the catalog."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from demos.page.catalog import Catalog
from demos.page.server_client import ServerClient

MOST_CHOSEN = 8
"""Adapters that are chosen to begin with."""


HIDDEN: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
"""Options of an event that only changes what is shown."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a tab is made with."""

    client: ServerClient
    catalog: gr.State
    """A reader's last catalog; None before the server has answered."""


@dataclass(frozen=True, kw_only=True)
class Picker:
    """A component whose choices are names of adapters."""

    component: gr.CheckboxGroup | gr.Dropdown
    names: Callable[[Catalog], Sequence[str]]
    """Choices."""
    count: int = MOST_CHOSEN
    """Names that are chosen to begin with, the first ones."""

    def update(self, catalog: Catalog, chosen: Sequence[str] | str | None) -> dict[str, Any]:
        """Return the choices of now, and of what was chosen all that is still there."""
        names = list(self.names(catalog))
        before = [chosen] if isinstance(chosen, str) else chosen or []
        kept = [name for name in before if name in names] or names[: self.count]
        many = isinstance(self.component, gr.CheckboxGroup)
        return gr.update(choices=names, value=kept if many else (kept or [None])[0])


@dataclass(frozen=True, kw_only=True)
class View:
    """A component that shows the catalog as HTML."""

    component: gr.HTML
    render: Callable[[Catalog], str]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts of a tab that the page keeps up to date."""

    pickers: Sequence[Picker] = ()
    views: Sequence[View] = ()
    shown: Sequence[tuple[Any, Callable[[Catalog], bool]]] = ()
    """Components with the condition under which they are there."""
    timers: Sequence[gr.Timer] = ()
    """Timers that run while the tab is open."""
    changes: Sequence[Any] = field(default_factory=tuple)
    """Events after which the server may have other adapters."""
