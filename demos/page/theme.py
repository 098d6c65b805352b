"""The page's one theme, light and dark: system fonts, and a few rules for the HTML of the tabs."""

import gradio as gr

FONT = ["system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]


def make_theme() -> gr.themes.Base:
    """Return the theme; nothing of it comes from another server."""
    return gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        body_text_color="*neutral_900",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )


HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">'
CSS = """
.gradio-container { --bar: #0f766e; --bad: #b91c1c; --bad-back: #fef2f2; width: 100%; max-width: 72rem !important;
  margin: auto; }
.dark .gradio-container, .gradio-container.dark { --bar: #2dd4bf; --bad: #fca5a5; --bad-back: #450a0a; }
.adamix-error { border-left: 4px solid var(--bad); background: var(--bad-back); color: var(--body-text-color);
  padding: .75rem 1rem; overflow-wrap: anywhere; }
.adamix-hint, .adamix-note { color: var(--body-text-color-subdued); margin: .25rem 0; overflow-wrap: anywhere; }
.adamix-note { font-size: .85rem; }
.adamix-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .75rem; }
.adamix-cards + .adamix-cards { margin-top: .75rem; }
.adamix-card { border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .75rem 1rem; min-width: 0;
  background: var(--background-fill-primary); }
.adamix-card h3 { margin: 0 0 .5rem; font-size: 1rem; overflow-wrap: anywhere; }
.adamix-bars { list-style: none; margin: 0; padding: 0; }
.adamix-bars li { display: grid; grid-template-columns: minmax(4rem, 35%) minmax(3rem, 1fr) 4rem; gap: .5rem;
  align-items: center; margin: .2rem 0; }
.adamix-label { overflow-wrap: anywhere; }
.adamix-share { text-align: right; font-variant-numeric: tabular-nums; }
.adamix-track { background: var(--border-color-primary); border-radius: .25rem; height: .75rem; overflow: hidden; }
.adamix-track span { display: block; height: 100%; background: var(--bar); }
.adamix-text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--font-mono); font-size: .9rem;
  min-height: 3rem; margin: 0; }
.gradio-container [role=tab][aria-selected=true] { color: var(--bar); }
#server { align-items: center; }
@media (max-width: 30rem) {
  .gradio-container main { padding: .75rem .5rem !important; }
  .gradio-container .tab-container button { padding: 0 .4rem; font-size: .8rem; }
  #server { flex-direction: column; align-items: stretch; }
}
.adamix-batch { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: center; margin: .5rem 0; }
.adamix-batch span { display: inline-flex; gap: 3px; align-items: center; flex-wrap: wrap; }
.adamix-batch i { width: .8rem; height: .8rem; border: 2px solid var(--bar); border-radius: 2px; }
.adamix-batch i.own { background: var(--bar); }
#adapters-table, #adapters-table > *, #batch-result, #batch-result > * { min-width: 0; }
.adamix-scroll { overflow-x: auto; max-width: 100%; }
.adamix-scroll:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.adamix-scroll table { border-collapse: collapse; width: 100%; }
.adamix-scroll :is(table, thead, tbody, tr) { border: 0 !important; }
.adamix-scroll th, .adamix-scroll td { text-align: left; padding: .4rem .75rem; white-space: nowrap;
  border: 0; border-bottom: 1px solid var(--border-color-primary); }
.adamix-progress progress { width: 100%; height: 1rem; accent-color: var(--bar); }
.adamix-plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .75rem; }
.adamix-plots figure, .adamix-picture { margin: 0; }
.adamix-plots svg, .adamix-picture svg { width: 100%; height: auto; color: var(--body-text-color); }
.adamix-plots figcaption { font-weight: 600; }
"""
