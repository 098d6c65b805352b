"""The page: its head, one tab a module, and what keeps them up to date with the server."""

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from demos.page import adapters_tab, batch_tab, classify_tab, generate_tab, how_tab, live_tab, markup, train_tab
from demos.page.catalog import Catalog, read_catalog
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts
from demos.page.theme import CSS, HEAD, make_theme
from demos.page.training_place import TrainingPlace

TABS: dict[str, Callable[[Context], Parts]] = {
    "Classify": classify_tab.add,
    "Batch": batch_tab.add,
    "Generate": generate_tab.add,
    "Adapters": adapters_tab.add,
    "Live": live_tab.add,
    "How it works": how_tab.add,
}
"""Tabs by title; a new one is a module beside this file and an entry here."""
TRAINING_TABS: dict[str, Callable[[Context], Parts]] = {"Train": train_tab.add}
"""Further tabs of a page that may train."""
MAX_FILE_SIZE = "20mb"
"""Largest file that the page takes."""


def make_page(client: ServerClient, *, training: TrainingPlace | None = None) -> gr.Blocks:
    """Return the page for a server; it may be down. With a place for training it may train."""
    with gr.Blocks(title="AdaMix", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML("<h1>AdaMix</h1><p>One frozen base model, many small adapters, one batch.</p>", elem_id="head")
        with gr.Row(elem_id="server"):
            status = gr.HTML(markup.hint(f"Asking the server at {client.address} …"), elem_id="server-status")
            again = gr.Button("Look again", size="sm", scale=0, min_width=120, elem_id="refresh")
        context = Context(client=client, catalog=gr.State(None), training=training)
        triggers, parts, tabs = [page.load, again.click], [], []
        with gr.Tabs():
            for title, add in (TABS | (TRAINING_TABS if training else {})).items():
                with gr.Tab(title) as tab:
                    parts.append(add(context))
                tabs.append(tab)
        triggers += [tab.select for tab in tabs]
        _run_timers(tabs, parts)
        _keep_up_to_date(context, triggers, status, parts)
    return page


def _run_timers(tabs: Sequence[gr.Tab], parts: Sequence[Parts]) -> None:
    """Run the timers of a tab while it is open, and at no other time."""
    timers = [(timer, tab) for tab, part in zip(tabs, parts, strict=True) for timer in part.timers]
    for timer, owner in timers:
        for tab in tabs:
            tab.select(lambda active=tab is owner: gr.Timer(active=active), None, timer, **HIDDEN)


def _keep_up_to_date(context: Context, triggers: Sequence[Any], status: gr.HTML, parts: Sequence[Parts]) -> None:
    """Ask the server what it has at each trigger, and pass it on to every picker and view."""
    pickers = [picker for part in parts for picker in part.pickers]
    views = [view for part in parts for view in part.views]
    shown = [one for part in parts for one in part.shown]

    async def refresh(before: Catalog | None, *chosen: Any) -> list[Any]:
        try:
            catalog = await read_catalog(context.client)
        except PageError as error:
            message = markup.error(error)
            return [
                message,
                gr.skip(),
                *(gr.skip() for _ in pickers),
                *(message for _ in views),
                *(gr.skip() for _ in shown),
            ]
        return [
            markup.hint(describe(catalog, context.client.address)),
            catalog,
            *(picker.update(before, catalog, one) for picker, one in zip(pickers, chosen, strict=True)),
            *(view.render(catalog) for view in views),
            *(gr.update(visible=condition(catalog)) for _, condition in shown),
        ]

    components = [picker.component for picker in pickers]
    outputs = [
        status,
        context.catalog,
        *components,
        *(view.component for view in views),
        *(component for component, _ in shown),
    ]
    inputs = [context.catalog, *components]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on(triggers, refresh, inputs, outputs, **quiet)
    for event in (event for part in parts for event in part.changes):
        event.then(refresh, inputs, outputs, **quiet)


def describe(catalog: Catalog, address: str) -> str:
    """Return one sentence on what a server has."""
    parts = []
    for bundle in catalog.bundles:
        mine = [adapter for adapter in catalog.adapters.values() if adapter.bundle is bundle]
        what = f"{bundle.task}, {bundle.precision} on {bundle.provider}"
        parts.append(f"{len(mine)} on {bundle.base} ({what})")
    return f"{address} has {markup.count(len(catalog.adapters), 'adapter')}: {'; '.join(parts)}."


def launch(page: gr.Blocks, *, port: int, host: str = "127.0.0.1", wait: bool = True) -> None:
    """Serve a page on an address, that of this machine alone by default, until interrupted unless it shall not wait.

    Raises:
        OSError: The port is taken.
    """
    page.queue(default_concurrency_limit=8).launch(
        server_name=host,
        server_port=port,
        theme=make_theme(),
        css=CSS,
        head=HEAD,
        footer_links=[],
        max_file_size=MAX_FILE_SIZE,
        quiet=True,
        share=False,
        ssr_mode=False,
        prevent_thread_lock=not wait,
    )


def show(client: ServerClient, *, port: int, training: TrainingPlace | None = None) -> None:
    """Serve the page until interrupted or told to end (SIGTERM), and print where it is.

    What it has started ends with it.

    Raises:
        OSError: The port is taken.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"\n   The page: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    launch(make_page(client, training=training), port=port)
