"""Tab Classify: one text, its labels through several adapters, and the time that it took."""

from collections.abc import Sequence

import gradio as gr

from demos.page import markup
from demos.page.batch_picture import draw_batch
from demos.page.catalog import AdapterFacts, Catalog, read_catalog
from demos.page.choosing import ask_to_choose
from demos.page.classification import LabelScores, predict_each, token_counts
from demos.page.server_client import PageError, ServerClient
from demos.page.tab import HIDDEN, Context, Parts, Picker

EXAMPLES = [
    "The parcel was left in the rain and the box is soaked, what a mess.",
    "Could you send the invoice for March once more? Thanks, you are always so quick!",
    "I cannot log in since I changed my phone number.",
    "Your app closes by itself whenever I open the basket.",
]
NOTHING_YET = "The labels of each adapter appear here."
NO_ADAPTER = "The server has no adapter that classifies."
CHANGED = "The text has changed: classify it again."


def add(context: Context) -> Parts:
    """Add the tab to the page that is being made."""

    async def run(catalog: Catalog | None, text: str, second: str, names: list[str]) -> str:
        return await classify(context.client, catalog, text, second, names)

    text = gr.Textbox(label="Text", value=EXAMPLES[0], lines=3, max_lines=12, elem_id="classify-text")
    second = gr.Textbox(label="Second text", info="for adapters that compare two texts", visible=False)
    adapters = gr.CheckboxGroup(label="Adapters", choices=[], elem_id="classify-adapters")
    button = gr.Button("Classify", variant="primary", elem_id="classify-run")
    result = gr.HTML(markup.hint(NOTHING_YET), elem_id="classify-result")
    asked = [context.catalog, text, second, adapters]
    gr.on([button.click, text.submit], run, asked, result, api_name="classify", show_progress="minimal")
    gr.on([text.input, second.input, adapters.input], lambda: markup.hint(CHANGED), None, result, **HIDDEN)
    gr.Markdown("Examples:")
    with gr.Row():
        for example in EXAMPLES:
            chosen = gr.Button(example, size="sm", elem_classes="adamix-example").click(
                lambda example=example: example, None, text, **HIDDEN
            )
            chosen.then(run, asked, result, api_visibility="private", show_progress="minimal")
    return Parts(
        pickers=[Picker(component=adapters, names=lambda catalog: catalog.classifiers)],
        shown=[(second, lambda catalog: any(adapter.pairs for adapter in catalog.adapters.values()))],
    )


async def classify(client: ServerClient, catalog: Catalog | None, text: str, second: str, names: Sequence[str]) -> str:
    """Return the labels of a text through each adapter as HTML, or what is missing or went wrong."""
    if not text.strip():
        return markup.hint("Write a text first.")
    if not names:
        return await ask_to_choose(client, catalog, lambda one: one.classifiers, what="an adapter", none=NO_ADAPTER)
    try:
        catalog = catalog or await read_catalog(client)
        chosen = [catalog.adapters[name] for name in names if name in catalog.adapters]
        tokens = await token_counts(client, chosen, text)
        answers = await predict_each(client, catalog, text, second, names)
    except PageError as error:
        return markup.error(error)
    results = [result for answer in answers for result in answer.results]
    milliseconds = sum(answer.milliseconds for answer in answers)
    requests = "one request" if len(answers) == 1 else f"{len(answers)} requests"
    count = markup.count(len(results), "adapter")
    found = markup.cards(_card(one, catalog.adapters.get(one.adapter), tokens) for one in results)
    batches = [batch for answer in answers for batch in answer.batches]
    said = markup.hint(f"{count} in {requests}, {milliseconds:.0f} ms from the page to the server and back.")
    return found + said + "".join(draw_batch(batch, set(names)) for batch in batches)


def _card(result: LabelScores, adapter: AdapterFacts | None, tokens: dict[str, int]) -> str:
    notes = [f"sha256 of its weights {result.sha256[:12]}…"]
    if adapter is not None and tokens.get(adapter.name, 0) > adapter.max_length:
        notes.append(f"it read {adapter.max_length} of the text's {tokens[adapter.name]} tokens")
    if len(result.scores) == 1:
        ((label, value),) = result.scores
        body = f"<p>{markup.escape(label)} <strong>{value:.4g}</strong></p>"
    else:
        body = markup.bars(result.scores)
    return markup.card(result.adapter, body, note="; ".join(notes))
