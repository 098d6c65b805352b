"""The parts of a tab that follow what the server has: pickers of adapters, and views of the catalog."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from demos.page.catalog import Catalog
from demos.page.server_client import ServerClient
from demos.page.training_place import TrainingPlace

MOST_CHOSEN = 8
"""Adapters that are chosen to begin with."""


HIDDEN: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
"""Options of an event that only changes what is shown."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Server and catalog that a tab is made with."""

    client: ServerClient
    catalog: gr.State
    """A reader's last catalog; None before the server has answered."""
    training: TrainingPlace | None = None
    """Where the page trains; None where it may not."""


@dataclass(frozen=True, kw_only=True)
class Picker:
    """A component whose choices are names of adapters."""

    component: gr.CheckboxGroup | gr.Dropdown
    names: Callable[[Catalog], Sequence[str]]
    """Choices."""
    count: int = MOST_CHOSEN
    """Names that are chosen to begin with, the first ones."""

    def update(self, before: Catalog | None, catalog: Catalog, chosen: Sequence[str] | str | None) -> Any:
        """Return the choices of now, and of what was chosen all that is still there.

        Choices that are the same are left alone: a reader may be choosing at this moment.
        """
        names = list(self.names(catalog))
        if before is not None and names == list(self.names(before)):
            return gr.skip()
        given = [chosen] if isinstance(chosen, str) else chosen or []
        kept = [name for name in given if name in names] or names[: self.count]
        many = isinstance(self.component, gr.CheckboxGroup)
        return gr.update(choices=names, value=kept if many else next(iter(kept), None))


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
