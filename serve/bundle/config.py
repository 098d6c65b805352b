"""Facts of the base model's configuration, `config.json`."""

import json
from typing import Any

from serve.bundle.manifest import CONFIG, GENERATION_CONFIG
from serve.bundle.reader import Bundle

CONTEXT_KEYS = ("max_position_embeddings", "n_positions")
"""Names that model families give to their longest sequence."""


def context_length(bundle: Bundle) -> int | None:
    """Return the model's longest sequence in tokens, or None if its configuration does not say."""
    config = _config(bundle)
    return next((int(config[key]) for key in CONTEXT_KEYS if config.get(key)), None)


def eos_token_ids(bundle: Bundle) -> list[int]:
    """Return the end-of-sequence tokens of the base model: those that it generates with, if the bundle says them."""
    ends = _config(bundle, GENERATION_CONFIG).get("eos_token_id")
    ends = _config(bundle).get("eos_token_id") if ends is None else ends
    if ends is None:
        return []
    return ends if isinstance(ends, list) else [ends]


def vocab_size(bundle: Bundle) -> int | None:
    """Return the number of tokens that the base model has embeddings for, or None if its configuration does not say."""
    size = _config(bundle).get("vocab_size")
    return size if isinstance(size, int) else None


def _config(bundle: Bundle, name: str = CONFIG) -> dict[str, Any]:
    """Return a configuration; empty for a bundle without it."""
    file = bundle.folder / name
    config: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return config
