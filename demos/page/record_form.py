"""A form for the records that a data-to-text adapter reads: a box a field, and the prompt made of them."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from demos.page.catalog import Catalog
from demos.page.tab import HIDDEN, Context, Parts, Picker

MOST_FIELDS = 16
"""Boxes of the form; fields beyond them are written into the prompt by hand."""
BRACKETS = str.maketrans("[]", "()")
"""Signs that end a value."""


def add(context: Context, prompt: gr.Textbox) -> Parts:
    """Add the form to the tab that is being made; it writes into `prompt`, and is there if an adapter reads records."""

    def show(catalog: Catalog | None, name: str | None) -> list[Any]:
        fields = _fields(catalog, name)
        labels = [*fields, *[""] * (MOST_FIELDS - len(fields))]
        return [gr.update(label=label or "field", visible=bool(label), value="") for label in labels]

    def write(catalog: Catalog | None, name: str | None, *values: str | None) -> str:
        return compose(_fields(catalog, name), values)

    with gr.Accordion("Fill in a record", open=True, visible=False, elem_id="generate-record") as form:
        model = gr.Dropdown(label="Fields of", choices=[], elem_id="generate-fields-of")
        with gr.Row():
            boxes = [gr.Textbox(label="field", value="", visible=False, min_width=160) for _ in range(MOST_FIELDS)]
    model.change(show, [context.catalog, model], boxes, **HIDDEN)
    # Not .input, which boxes that were hidden at first never fire.
    gr.on([box.change for box in boxes], write, [context.catalog, model, *boxes], prompt, **HIDDEN)
    return Parts(
        pickers=[Picker(component=model, names=readers, count=1)],
        shown=[(form, lambda catalog: bool(readers(catalog)))],
    )


def readers(catalog: Catalog) -> list[str]:
    """Return the adapters that write texts from records."""
    return [name for name, adapter in catalog.adapters.items() if adapter.record_fields]


def compose(fields: Sequence[str], values: Sequence[str | None]) -> str:
    """Return the record of the fields that have a value: `name[Lantern Walk], price[free]`."""
    given = ((field, (value or "").strip().translate(BRACKETS)) for field, value in zip(fields, values, strict=False))
    return ", ".join(f"{field}[{value}]" for field, value in given if value)


def _fields(catalog: Catalog | None, name: str | None) -> Sequence[str]:
    found = catalog.adapters.get(name) if catalog is not None and name else None
    return found.record_fields[:MOST_FIELDS] if found is not None else ()
