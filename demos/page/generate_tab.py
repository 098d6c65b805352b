"""Tab Generate: one prompt, its texts from the base and from adapters side by side, as they are generated."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from demos.page import markup, record_form
from demos.page.catalog import Catalog
from demos.page.choosing import ask_to_choose
from demos.page.generation import Draft, Settings, generate_side_by_side
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts, Picker

NOTHING_YET = "The texts appear here, side by side."
NO_MODEL = "The server has no bundle that generates."
STOPPED = "Stopped: the server was told to generate no more."
SCHEMA = """{
  "type": "object",
  "properties": {"name": {"type": "string"}, "stars": {"type": "integer"}},
  "required": ["name", "stars"]
}"""


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    async def run(
        catalog: Catalog | None, prompt: str, models: list[str], *values: Any
    ) -> AsyncGenerator[tuple[Any, str], None]:
        async with aclosing(generate(context.client, catalog, prompt, models, _settings(*values))) as steps:
            async for step in steps:
                yield step

    prompt = gr.Textbox(label="Prompt", lines=3, max_lines=12, elem_id="generate-prompt")
    form = record_form.add(context, prompt)
    models = gr.CheckboxGroup(label="Models, side by side", choices=[], elem_id="generate-models")
    controls = _sampling_controls()
    with gr.Row():
        button = gr.Button("Generate", variant="primary", elem_id="generate-run")
        stop = gr.Button("Stop", elem_id="generate-stop")
    status = gr.HTML(markup.hint(NOTHING_YET), elem_id="generate-status")
    texts = gr.HTML(elem_id="generate-texts")
    running = gr.on(
        [button.click, prompt.submit],
        run,
        [context.catalog, prompt, models, *controls],
        [status, texts],
        api_visibility="private",
        show_progress="hidden",
    )
    stop.click(lambda: markup.hint(STOPPED), None, status, cancels=[running], **HIDDEN)
    gr.on([prompt.input, models.input], lambda: (markup.hint(NOTHING_YET), ""), None, [status, texts], **HIDDEN)
    picker = Picker(component=models, names=lambda catalog: catalog.generators, count=2)
    return Parts(pickers=[picker, *form.pickers], shown=form.shown)


def _sampling_controls() -> list[Any]:
    """Add the controls of sampling, in the order of `_settings`."""
    with gr.Accordion("Sampling and JSON", open=False, elem_id="generate-controls"):
        with gr.Row():
            most = gr.Slider(1, 2048, value=64, step=1, label="Most tokens")
            temperature = gr.Slider(0, 2, value=0, step=0.05, label="Temperature", info="0 takes the likeliest token")
        with gr.Row():
            top_p = gr.Slider(0.05, 1, value=1, step=0.05, label="Top p")
            top_k = gr.Slider(0, 200, value=0, step=1, label="Top k", info="0 keeps all")
            penalty = gr.Slider(1, 2, value=1, step=0.05, label="Repetition penalty")
            seed = gr.Number(label="Seed", value=-1, precision=0, minimum=-1, info="-1 draws anew each time")
        follow = gr.Checkbox(label="Follow a JSON schema", elem_id="generate-json")
        schema = gr.Textbox(label="JSON schema", value=SCHEMA, lines=6, visible=False, elem_id="generate-schema")
        follow.change(lambda on: gr.update(visible=on), follow, schema, **HIDDEN)
    return [most, temperature, top_p, top_k, penalty, seed, follow, schema]


def _settings(
    most: int,
    temperature: float,
    top_p: float,
    top_k: int,
    penalty: float,
    seed: int | None,
    follow: bool,
    schema: str,
) -> Settings:
    return Settings(
        max_tokens=int(most),
        temperature=temperature,
        top_p=top_p,
        top_k=int(top_k),
        repetition_penalty=penalty,
        seed=None if seed is None or seed < 0 else int(seed),
        json_schema=schema if follow else None,
    )


async def generate(
    client: ServerClient, catalog: Catalog | None, prompt: str, models: Sequence[str], settings: Settings
) -> AsyncGenerator[tuple[Any, str], None]:
    """Yield the state of the work and the texts as HTML; closing the iterator cancels the requests.

    The state is left alone between beginning and end, so that a piece which is late does not overwrite that of Stop.
    """
    if not prompt.strip():
        yield markup.hint("Write a prompt first."), ""
        return
    if not models:
        yield await ask_to_choose(client, catalog, lambda one: one.generators, what="a model", none=NO_MODEL), ""
        return
    try:
        async with aclosing(generate_side_by_side(client, prompt, models, settings)) as steps:
            yield markup.hint("Generating …"), ""
            async for drafts in steps:
                done = all(draft.is_done for draft in drafts)
                yield markup.hint(_ended(drafts)) if done else gr.skip(), markup.cards(map(_card, drafts))
    except PageError as error:
        yield markup.error(error), ""


def _ended(drafts: Sequence[Draft]) -> str:
    """Return what is said of drafts at their end."""
    failed = [draft.model for draft in drafts if draft.error is not None]
    return f"Not all is done: {', '.join(failed)} ended with an error." if failed else "Done."


def _card(draft: Draft) -> str:
    text = draft.text.lstrip("\r\n")
    body = f'<p class="adamix-text">{markup.escape(text)}</p>'
    if draft.error is not None:
        body += markup.error(draft.error)
    return markup.card(draft.model, body, note=draft.describe())
