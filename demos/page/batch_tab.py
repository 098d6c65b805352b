"""Tab Batch: a CSV file in, the same file with the labels of adapters out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from demos.page import markup
from demos.page.catalog import Catalog, read_catalog
from demos.page.choosing import ask_to_choose
from demos.page.classification import LabelScores
from demos.page.csv_batch import label_rows, read_csv, write_csv
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts, Picker

NOTHING_YET = "Give a CSV file (UTF-8) with one text a row; its first line names the columns."
NO_ADAPTER = "The server has no adapter that classifies one text."
SHOWN_ROWS = 5


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    async def run(
        catalog: Catalog | None, file: str | None, column: str | None, names: list[str]
    ) -> AsyncGenerator[tuple[str, Any], None]:
        async for step in label_file(context.client, catalog, file, column, names):
            yield step

    file = gr.File(label="CSV file", file_types=[".csv"], elem_id="batch-file", height=160)
    with gr.Row():
        column = gr.Dropdown(label="Column with the texts", choices=[], elem_id="batch-column")
        adapters = gr.CheckboxGroup(label="Adapters", choices=[], elem_id="batch-adapters")
    with gr.Row():
        button = gr.Button("Classify the file", variant="primary", elem_id="batch-run")
        stop = gr.Button("Stop", elem_id="batch-stop")
    result = gr.HTML(markup.hint(NOTHING_YET), elem_id="batch-result")
    stopped = gr.HTML(elem_id="batch-stopped")
    out = gr.File(label="The file with labels", interactive=False, visible=False, elem_id="batch-out")
    file.change(look, file, [column, result, out], **HIDDEN)
    asked = [context.catalog, file, column, adapters]
    running = button.click(run, asked, [result, out], api_visibility="private", show_progress="hidden")
    button.click(lambda: "", None, stopped, **HIDDEN)
    stop.click(lambda: markup.hint("Stopped."), None, stopped, cancels=[running], **HIDDEN)
    return Parts(pickers=[Picker(component=adapters, names=_names)])


def look(file: str | None) -> tuple[Any, str, Any]:
    """Return the columns of a file that was given, what is said of it, and no result."""
    if file is None:
        return gr.update(choices=[], value=None), markup.hint(NOTHING_YET), gr.update(visible=False)
    try:
        content = read_csv(Path(file))
    except PageError as error:
        return gr.update(choices=[], value=None), markup.error(error), gr.update(visible=False)
    column = gr.update(choices=content.columns, value=content.text_column)
    return column, markup.hint(content.describe()), gr.update(visible=False)


async def label_file(
    client: ServerClient, catalog: Catalog | None, file: str | None, column: str | None, names: Sequence[str]
) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield what is shown of the work on a file, and at its end the file with labels; closing the iterator ends it."""
    if file is None or not names or column is None:
        yield await _missing(client, catalog, file, column), gr.update(visible=False)
        return
    results: list[LabelScores] = []
    path = Path(file)
    out = path.with_name(f"{path.stem}-labels.csv")
    try:
        catalog = catalog or await read_catalog(client)
        content = read_csv(path)
        texts = [row[column] for row in content.rows]
        yield markup.progress(0, len(texts), label=f"0 of {len(texts):,} rows"), gr.update(visible=False)
        async with aclosing(label_rows(client, texts, names, max_texts=catalog.max_texts)) as pieces:
            async for piece in pieces:
                results += piece
                done = len(results) // len(names)
                yield markup.progress(done, len(texts), label=f"{done:,} of {len(texts):,} rows"), gr.skip()
    except PageError as error:
        done = len(results) // len(names)
        kept = f" The {done:,} rows that were done are in the file." if done else ""
        if done:
            write_csv(out, content, names, results)
        yield markup.error(f"{error}{kept}"), gr.update(value=str(out) if done else None, visible=bool(done))
        return
    write_csv(out, content, names, results)
    yield _summary(texts, names, results), gr.update(value=str(out), visible=True)


async def _missing(client: ServerClient, catalog: Catalog | None, file: str | None, column: str | None) -> str:
    """Return what a reader has yet to give, or what is wrong with the file or the server, as HTML."""
    if file is None:
        return markup.hint("Give a CSV file first.")
    try:
        read_csv(Path(file))
    except PageError as error:
        return markup.error(error)
    if column is None:
        return markup.hint("Choose the column with the texts.")
    return await ask_to_choose(client, catalog, _names, what="an adapter", none=NO_ADAPTER)


def _summary(texts: Sequence[str], names: Sequence[str], results: Sequence[LabelScores]) -> str:
    rows = [
        [markup.escape(text), *(markup.escape(one.scores[0][0]) for one in results[place : place + len(names)])]
        for text, place in zip(texts[:SHOWN_ROWS], range(0, len(results), len(names)), strict=False)
    ]
    count = f"Done: {markup.count(len(texts), 'row')}. The first {len(rows)}:"
    return markup.hint(count) + markup.table(["text", *names], rows, label="First rows with labels")


def _names(catalog: Catalog) -> list[str]:
    """Return the adapters that read one text."""
    return [name for name in catalog.classifiers if not catalog.adapters[name].pairs]
