"""Facts of the base model's configuration, `config.json`."""

import json

from serve.bundle.reader import Bundle

CONTEXT = ("max_position_embeddings", "n_positions")


def context_of(bundle: Bundle) -> int | None:
    """Return how many tokens a model was made for, if its configuration says so."""
    config = json.loads((bundle.folder / "config.json").read_text("utf-8"))
    return next((int(config[name]) for name in CONTEXT if config.get(name)), None)
