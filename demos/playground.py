"""The page: a text, the prediction of every adapter, and the time that it took."""

import argparse
import os
import sys
import time
from typing import Any

import httpx

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

EXAMPLES = [
    "The parcel was left in the rain and the box is soaked, what a mess.",
    "Could you send the invoice for March once more? Thanks, you are always so quick!",
    "I cannot log in since I changed my phone number.",
    "Your app closes by itself whenever I open the basket.",
]
FONT = ["system-ui", "sans-serif"]


def make_page(address: str) -> gr.Blocks:
    """Return the page for the server at `address`."""
    server = httpx.Client(base_url=address, timeout=30)
    info: dict[str, Any] = server.get("/info").json()
    info = next((part for part in info.get("bundles", ()) if part["task"] == "classification"), info)
    adapters: dict[str, dict[str, Any]] = info["adapters"]

    def classify(text: str) -> list[Any]:
        body = {"inputs": [[text]] * len(adapters), "adapter": list(adapters), "truncate": True, "return_adapter": True}
        started = time.perf_counter()
        try:
            response = server.post("/predict", json=body)
        except httpx.TransportError as error:
            raise gr.Error(f"The server at {address} does not answer: {error}") from error
        took = 1000 * (time.perf_counter() - started)
        if response.status_code != 200:
            raise gr.Error(response.json()["error"])
        labels = [{score["label"]: score["score"] for score in scores} for scores in response.json()]
        hashes = [scores[0]["sha256"] for scores in response.json()]
        proofs = ", ".join(f"**{name}** `{sha256[:12]}`" for name, sha256 in zip(adapters, hashes, strict=True))
        return [*labels, f"{len(adapters)} adapters in one batch, {took:.0f} ms. Answered by {proofs}."]

    with gr.Blocks(title="AdaMix", analytics_enabled=False) as page:
        gr.Markdown(
            f"# AdaMix\nOne base model ({info['base']['model_type']}), {len(adapters)} adapters, one batch, "
            f"{info['precision']} on {info['provider'].removesuffix('ExecutionProvider')}."
        )
        text = gr.Textbox(label="A customer's message", value=EXAMPLES[0], lines=2, autofocus=True)
        button = gr.Button("Ask all adapters", variant="primary")
        with gr.Row():
            answers = [gr.Label(label=name) for name in adapters]
        status = gr.Markdown()
        gr.Examples(EXAMPLES, text)
        gr.Markdown(_adapter_table(adapters))
        outputs = [*answers, status]
        button.click(classify, text, outputs, api_name="classify")
        text.submit(classify, text, outputs, api_name=False)
        page.load(classify, text, outputs, api_name=False)
    return page


def _adapter_table(adapters: dict[str, dict[str, Any]]) -> str:
    head = "| adapter | kind | labels | accuracy on its test file | sha256 |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(
        f"| {name} | {adapter['kind']} | {', '.join(adapter['labels'])} "
        f"| {adapter['metrics'].get('test_accuracy', float('nan')):.3f} | `{adapter['sha256'][:12]}` |"
        for name, adapter in adapters.items()
    )


def show(address: str, *, port: int) -> None:
    """Serve the page until interrupted, and print where it is."""
    theme = gr.themes.Soft(font=FONT, font_mono=["ui-monospace", "monospace"])
    print(f"\n   The page: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    make_page(address).launch(server_name="127.0.0.1", server_port=port, theme=theme, quiet=True, share=False)


def main() -> None:
    """Show the page for a server that is running."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Show the page for a running adamix-serve.")
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8080", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port of the page (default: %(default)s)")
    args = parser.parse_args()
    try:
        show(args.address, port=args.port)
    except httpx.TransportError as error:
        sys.exit(f"demos.playground: no server answers at {args.address} ({error}): start adamix-serve first")
    except OSError as error:
        sys.exit(f"demos.playground: {error}; give another --port")


if __name__ == "__main__":
    main()
