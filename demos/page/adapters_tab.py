"""Tab Adapters: what is loaded, how large and how exact it is, and loading and unloading."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from demos.page import markup
from demos.page.catalog import AdapterFacts, Catalog
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts, Picker, View

HEAD = ["adapter", "size", "of its base", "as in PyTorch", "metric", "where", "kind", "base", "weights"]
PLACES: dict[str, str] = {
    "slot": "slot",
    "host": "in host memory",
    "disk": "on disk",
    "graph": "in the graph",
    "registered": "served",
    "available": "not loaded",
    "failed": "refused",
}
"""Statuses of `/v1/adapters` for readers."""
UNTOLD = "–"
"""Stands for what the server does not say."""
LOADING = (
    "The server loads adapters from below its --adapter-dir, and compares each with PyTorch's logits before it serves "
    "it. A server with API keys wants that of an administrator; without one here, the page's own key is sent."
)


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    async def load(name: str, folder: str, replace: bool, key: str) -> str:
        return await load_adapter(context.client, name, folder, replace=replace, key=key)

    async def unload(name: str | None, key: str) -> str:
        return await unload_adapter(context.client, name, key=key)

    table = gr.HTML(markup.hint("The adapters of the server appear here."), elem_id="adapters-table")
    result = gr.HTML(elem_id="adapters-result", render=False)
    with gr.Accordion("Load and unload", open=False, elem_id="adapters-controls"):
        gr.Markdown(LOADING)
        key = gr.Textbox(label="Administrator's key", type="password", elem_id="adapters-key")
        with gr.Row():
            folder = gr.Textbox(label="Folder below --adapter-dir", elem_id="adapters-folder")
            name = gr.Textbox(label="Name of the adapter", info="as its card has it; empty: that of the folder")
            replace = gr.Checkbox(label="Replace the adapter of that name")
        loaded = gr.Button("Load", elem_id="adapters-load").click(
            load, [name, folder, replace, key], result, api_visibility="private", show_progress="minimal"
        )
        gone = gr.Dropdown(label="Adapter to unload", choices=[], elem_id="adapters-gone")
        unloaded = gr.Button("Unload", elem_id="adapters-unload").click(
            unload, [gone, key], result, api_visibility="private", show_progress="minimal"
        )
        result.render()
    folder.input(lambda: "", None, result, **HIDDEN)
    return Parts(
        pickers=[Picker(component=gone, names=lambda catalog: list(catalog.adapters), count=0)],
        views=[View(component=table, render=render)],
        changes=[loaded, unloaded],
    )


async def load_adapter(client: ServerClient, name: str, folder: str, *, replace: bool, key: str) -> str:
    """Load an adapter, and return what came of it as HTML."""
    folder = folder.strip()
    if not folder:
        return markup.hint("Give the adapter's folder first.")
    name = name.strip() or folder.rstrip("/").rpartition("/")[2]
    body = {"lora_name": name, "lora_path": folder, "load_inplace": replace}
    try:
        found = await client.post("/v1/load_lora_adapter", body, api_key=key.strip() or None)
    except PageError as error:
        return markup.error(error)
    return markup.hint(f"{name} is loaded; its weights are {found['root'][:12]}.")


async def unload_adapter(client: ServerClient, name: str | None, *, key: str) -> str:
    """Unload an adapter, and return what came of it as HTML."""
    if not name:
        return markup.hint("Choose an adapter first.")
    try:
        await client.post("/v1/unload_lora_adapter", {"lora_name": name}, api_key=key.strip() or None)
    except PageError as error:
        return markup.error(error)
    return markup.hint(f"{name} is unloaded; requests that arrived before still get it.")


def render(catalog: Catalog) -> str:
    """Return the table of all adapters."""
    rows = [_row(adapter) for adapter in catalog.adapters.values()]
    rows += [_other(one) for one in catalog.others]
    if not rows:
        return markup.hint("The server has no adapters.")
    failed = [
        markup.error(f"{one['name']}: {one['error']}")
        for one in [*catalog.others, *(adapter.state for adapter in catalog.adapters.values())]
        if one.get("error")
    ]
    return markup.table(HEAD, rows, label="Adapters of the server") + "".join(failed)


def _row(adapter: AdapterFacts) -> list[str]:
    share = _share(adapter)
    kind = adapter.kind if adapter.rank is None else f"{adapter.kind}, r {adapter.rank}"
    return [
        markup.escape(adapter.name),
        markup.byte_size(adapter.size_bytes),
        UNTOLD if share is None else f"{share:.2%}",
        markup.escape(_parity(adapter.parity)),
        markup.escape(metric_of(adapter) or UNTOLD),
        _place(adapter.state or {"status": "registered"}),
        markup.escape(kind),
        markup.escape(f"{adapter.bundle.base}, {adapter.bundle.precision}"),
        f"<code>{markup.escape(adapter.sha256[:12])}</code>",
    ]


def _other(state: Mapping[str, Any]) -> list[str]:
    """Return the row of a folder that is not served."""
    cells = {"adapter": markup.escape(state["name"]), "where": _place(state)}
    return [cells.get(column, UNTOLD) for column in HEAD]


def _place(state: Mapping[str, Any]) -> str:
    pinned = ", pinned" if state.get("pinned") else ""
    slot = f" {state['slot']}" if state["status"] == "slot" and state.get("slot") is not None else ""
    return markup.escape(f"{PLACES.get(state['status'], state['status'])}{slot}{pinned}")


def _share(adapter: AdapterFacts) -> float | None:
    """Return the adapter's size as a share of the base's."""
    if adapter.size_bytes is None or not adapter.bundle.graph_bytes:
        return None
    return adapter.size_bytes / adapter.bundle.graph_bytes


def metric_of(adapter: AdapterFacts) -> str | None:
    """Return the metric that says most: no loss, and one of the test file, if there are such; None if there is none."""
    ordered = sorted(adapter.metrics.items(), key=lambda one: (one[0].endswith("loss"), not one[0].startswith("test_")))
    if not ordered:
        return None
    name, value = ordered[0]
    return f"{name.removeprefix('test_')} {value:.3f}{' (test file)' if name.startswith('test_') else ''}"


def _parity(parity: Mapping[str, Any] | None) -> str:
    """Return how far the exported adapter was from PyTorch."""
    if not parity or "max_difference" not in parity:
        return UNTOLD
    equal = f", {parity['equal_labels']:.1%} equal" if "equal_labels" in parity else ""
    return f"within {parity['max_difference']:.1e}{equal}"
