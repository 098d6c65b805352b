"""Tab Train: a CSV file in, its losses and metrics as they come, and a new adapter in the server at the end."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from demos.page import markup
from demos.page.catalog import Catalog, read_catalog
from demos.page.csv_batch import read_csv
from demos.page.plots import Line, plot, plots
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts, Picker
from demos.page.training import TrainingRequest, TrainingState, train_adapter
from demos.page.training_place import TrainingPlace

LABEL_COLUMNS = ("label", "target", "class", "category", "output")
"""Names of columns that hold the labels, the likeliest first."""
NOTHING_YET = "Give a CSV file (UTF-8) with a text and its label a row; its first line names the columns."
STOPPED = "Stopped: the training was ended, and nothing of it is kept."
ABOUT = (
    "The new adapter has the base, kind, rank and number of modules of one that is served. A tenth of the rows is held "
    "out to measure it. The server compares it with PyTorch's logits before it serves it, and keeps its other adapters."
)
LOSSES: dict[str, str] = {"loss": "Loss in training", "eval_loss": "Loss on held-out rows"}
"""Plots of losses, by their name in the log."""
SPEEDS = ("_runtime", "_per_second", "_loss", "_time")
"""Ends of logged names that are no metrics."""
REPORT = ["adapter", "rows", "largest difference", "equal", "metric", "PyTorch", "served"]


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""
    place = context.training
    assert place is not None

    async def run(catalog: Catalog | None, *values: Any) -> AsyncGenerator[tuple[Any, Any], None]:
        async with aclosing(train(context.client, place, catalog, *values)) as steps:
            async for step in steps:
                yield step

    gr.Markdown(ABOUT)
    file = gr.File(label="CSV file", file_types=[".csv"], elem_id="train-file", height=160)
    with gr.Row():
        text = gr.Dropdown(label="Column of the texts", choices=[], elem_id="train-text")
        label = gr.Dropdown(label="Column of the labels", info="or of the texts to generate", choices=[])
    with gr.Row():
        model = gr.Dropdown(label="Made like", choices=[], elem_id="train-model")
        name = gr.Textbox(label="Name of the new adapter", elem_id="train-name")
    with gr.Row():
        epochs = gr.Number(label="Passes over the rows", value=0, minimum=0, info="0: as many as make about 600 steps")
        key = gr.Textbox(
            label="Administrator's key", type="password", info="if the server has keys", elem_id="train-key"
        )
    with gr.Row():
        button = gr.Button("Train", variant="primary", elem_id="train-run")
        stop = gr.Button("Stop", elem_id="train-stop")
    status = gr.HTML(markup.hint(NOTHING_YET), elem_id="train-status")
    drawn = gr.HTML(elem_id="train-plots")
    file.change(look, file, [text, label, status], **HIDDEN)
    asked = [context.catalog, file, text, label, model, name, epochs, key]
    running = button.click(run, asked, [status, drawn], api_visibility="private", show_progress="hidden")
    stop.click(lambda: markup.hint(STOPPED), None, status, cancels=[running], **HIDDEN)
    return Parts(pickers=[Picker(component=model, names=place.models, count=1)], changes=[running])


def look(file: str | None) -> tuple[Any, Any, str]:
    """Return the columns of a file that was given, and what is said of it."""
    nothing = gr.update(choices=[], value=None)
    if file is None:
        return nothing, nothing, markup.hint(NOTHING_YET)
    try:
        content = read_csv(Path(file))
    except PageError as error:
        return nothing, nothing, markup.error(error)
    if len(content.columns) < 2:
        message = f"{Path(file).name} has one column only: texts and labels are two, with commas between them."
        return nothing, nothing, markup.error(message)
    text = content.text_column
    others = [column for column in content.columns if column != text]
    named = [column for name in LABEL_COLUMNS for column in others if column.lower() == name]
    return (
        gr.update(choices=content.columns, value=text),
        gr.update(choices=content.columns, value=(named or others[::-1])[0]),
        markup.hint(content.describe()),
    )


async def train(
    client: ServerClient,
    place: TrainingPlace,
    catalog: Catalog | None,
    file: str | None,
    text: str | None,
    label: str | None,
    model: str | None,
    name: str,
    epochs: float | None,
    key: str,
) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield the state of a run and its plots as HTML; closing the iterator ends the run.

    The state is yielded when it changes, so that a piece which is late does not overwrite that of Stop.
    """
    if file is None or text is None or label is None or model is None or not name.strip():
        yield markup.hint(_missing(file, text and label, model)), gr.skip()
        return
    shown = ""
    try:
        catalog = catalog or await read_catalog(client)
        request = TrainingRequest(
            name=name.strip(),
            file=Path(file),
            text_column=text,
            label_column=label,
            model=catalog.adapters[model],
            epochs=epochs or None,
            api_key=key.strip() or None,
        )
        async with aclosing(train_adapter(client, place, catalog, request)) as states:
            async for state in states:
                found = describe(state, request.name)
                yield gr.skip() if found == shown else found, draw(state.entries)
                shown = found
    except PageError as error:
        yield markup.error(error), gr.skip()


def _missing(file: str | None, columns: str | None, model: str | None) -> str:
    if file is None:
        return "Give a CSV file first."
    if not columns:
        return "Choose the columns of the texts and of the labels."
    if model is None:
        return "The server has no bank on a base that is on this page's machine (adamix-demo --base)."
    return "Give the new adapter a name."


def describe(state: TrainingState, name: str) -> str:
    """Return how far a run has come as HTML, and at its end the comparison with PyTorch."""
    if state.parity is not None:
        return markup.hint(f"{name} is served: choose it in the other tabs.") + markup.table(
            REPORT, [_report(name, state.parity)], label="The new adapter compared with PyTorch"
        )
    steps = [(entry["step"], entry["max_steps"]) for entry in state.entries if "max_steps" in entry]
    if state.stage != "Training" or not steps:
        return markup.hint(f"{state.stage} …")
    done, total = steps[-1]
    return markup.progress(done, total, label=f"{state.stage}: step {done:,} of {total:,}")


def _report(name: str, parity: Mapping[str, Any]) -> list[str]:
    return [
        markup.escape(name),
        f"{parity['rows']:,}",
        f"{parity['max_difference']:.1e}",
        f"{parity['equal_labels']:.1%}",
        markup.escape(parity["metric"]),
        *("–" if parity[side] is None else f"{parity[side]:.4f}" for side in ("pytorch", "onnx")),
    ]


def draw(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the losses and the first metric of a run so far, by which the best checkpoint is chosen, as plots."""
    logged = [name for entry in entries for name in entry if name.startswith("eval_") and not name.endswith(SPEEDS)]
    metrics = {name: f"{name.removeprefix('eval_').capitalize()} on held-out rows" for name in logged[:1]}
    drawn = [_plot(title, _course(entries, name)) for name, title in (LOSSES | metrics).items()]
    return plots([one for one in drawn if one])


def _course(entries: Sequence[Mapping[str, Any]], name: str) -> list[float | None]:
    """Return a value by step; later values of a step are those of the best checkpoint."""
    first: dict[int, float | None] = {}
    for entry in entries:
        if name in entry:
            first.setdefault(entry["step"], entry[name])
    return list(first.values())


def _plot(title: str, course: list[float | None]) -> str:
    """Return a plot over evaluations; nothing before there is a value."""
    return plot(title, [Line(name="newest", points=course)], unit="", count=max(len(course), 2)) if course else ""
