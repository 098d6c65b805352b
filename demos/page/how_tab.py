"""Tab How it works: the mixture, the collapse and the bank as pictures, with the numbers of an adapter at hand."""

import gradio as gr

from demos.page import markup
from demos.page.adapters_tab import metric_of
from demos.page.catalog import AdapterFacts, Catalog
from demos.page.how_pictures import bank_picture, collapse_picture, mixture_picture
from demos.page.tab import HIDDEN, Context, Parts, Picker, View

NONE = "The server has no adapter to explain."
SHOWN_IN_BANK = 5


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    def show(catalog: Catalog | None, name: str | None) -> str:
        adapter = catalog.adapters.get(name) if catalog is not None and name else None
        return explain(adapter) if adapter is not None else markup.hint(NONE)

    name = gr.Dropdown(label="Adapter", choices=[], elem_id="how-adapter")
    one = gr.HTML(markup.hint("Choose an adapter."), elem_id="how-one")
    bank = gr.HTML(elem_id="how-bank")
    name.change(show, [context.catalog, name], one, **HIDDEN)
    return Parts(
        pickers=[Picker(component=name, names=lambda catalog: list(catalog.adapters), count=1)],
        views=[View(component=bank, render=explain_bank)],
    )


def explain(adapter: AdapterFacts) -> str:
    """Return the mixture and the collapse of an adapter as HTML."""
    modules = adapter.num_modules or 1
    rank = f"rank {adapter.rank}" if adapter.rank is not None else "a small rank"
    if modules < 2:
        first = f"{adapter.name} was trained as one module of {rank} at each place, without a mixture."
    else:
        first = (
            f"While {adapter.name} was trained, each place of the frozen base had {modules} modules of {rank} "
            "instead of one. A row of a step goes through one of them: each has an equal share of the rows, or one is "
            "drawn for all. With a consistency weight a second view of the rows goes through others, and the two "
            "predictions are pulled together."
        )
    size = f" It has {markup.byte_size(adapter.size_bytes)}." if adapter.size_bytes is not None else ""
    base = f" The base has {markup.byte_size(adapter.bundle.graph_bytes)} and is there once."
    measured = metric_of(adapter)
    averaged = (
        f"At the end the {modules} modules are averaged, weight by weight, into one adapter. What is served costs what "
        "one module costs."
    )
    begun = averaged if modules > 1 else "There is nothing to average: what was trained is what is served."
    second = f"{begun}{size}{base if adapter.bundle.graph_bytes else ''}"
    found = f"Measured after the collapse: {measured}." if measured else ""
    boxes = [
        markup.card("1. The mixture", mixture_picture(modules) + _paragraph(first)),
        markup.card("2. The collapse", collapse_picture(modules) + _paragraph(second), note=found),
    ]
    return markup.cards(boxes) + markup.cards(_averaged(adapter))


def _averaged(adapter: AdapterFacts) -> list[str]:
    """Return how far the modules were apart, and what each of them reaches beside their mean, as far as is known."""
    boxes = []
    if adapter.module_distances:
        bars = [(f"module {number}", share) for number, share in enumerate(adapter.module_distances, 1)]
        note = "‖module − mean‖ / ‖mean‖, over the weights in which the modules differ."
        boxes.append(
            markup.card(
                "How far the modules are from their mean",
                markup.bars(bars, top=max(1.0, *adapter.module_distances)),
                note=note,
            )
        )
    if measured := metrics_of_modules(adapter):
        metric = (adapter.parity or {})["metric"]
        rows = [[markup.escape(name), f"{value:.4f}"] for name, value in measured.items()]
        body = markup.table(["", markup.escape(metric)], rows, label=f"{metric} of the modules and their mean")
        note = "On the data that the export was compared on, in ONNX Runtime. The ensemble runs every module."
        boxes.append(markup.card("What each module reaches", body, note=note))
    elif boxes:
        boxes.append(markup.hint("Exported with --keep-modules, a bank has the metric of each module, too."))
    return boxes


def metrics_of_modules(adapter: AdapterFacts) -> dict[str, float]:
    """Return the metric of each module, of their ensemble and of their mean; empty where the bundle lacks a module."""
    mean = adapter.parity or {}
    found = [one.get("onnx") for one in adapter.member_parity]
    if len(found) != adapter.num_modules or None in (*found, mean.get("onnx")):
        return {}
    modules = {f"module {number}": value for number, value in enumerate(found, 1)}
    whole = {"their ensemble": mean.get("ensemble"), "their mean, which is served": mean["onnx"]}
    return {name: value for name, value in (modules | whole).items() if value is not None}


def explain_bank(catalog: Catalog) -> str:
    """Return the bank of each bundle as HTML."""
    boxes = []
    for bundle in catalog.bundles:
        names = [adapter.name for adapter in catalog.adapters.values() if adapter.bundle is bundle]
        if bundle.shape == "bank":
            counts = f"{_count(len(names), 'adapter')} on {bundle.base}, {_count(bundle.slots or 0, 'slot')}."
            how = (
                "Their weights are inputs of one graph, and each row of a batch names its own: one run serves them all."
            )
            text = f"{counts} {how}"
        else:
            text = f"One adapter, merged into the weights of {bundle.base}."
        picture = bank_picture(names[:SHOWN_IN_BANK], more=max(len(names) - SHOWN_IN_BANK, 0))
        boxes.append(markup.card(f"3. The bank on {bundle.base}", picture + _paragraph(text)))
    return markup.cards(boxes)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _paragraph(text: str) -> str:
    return f"<p>{markup.escape(text)}</p>"
