"""Facts of the tokenizer's configuration, `tokenizer_config.json`: chat templates and the texts of special tokens."""

import json
from typing import Any

from serve.bundle.manifest import TOKENIZER_CONFIG
from serve.bundle.reader import Bundle

DEFAULT_TEMPLATE = "default"
"""Name of the chat template that is used unless another one is meant for the request."""


def chat_templates(bundle: Bundle) -> dict[str, str]:
    """Return the chat templates of the base by name; empty if it has none."""
    found = _config(bundle).get("chat_template") or {}
    if isinstance(found, str):
        return {DEFAULT_TEMPLATE: found}
    if isinstance(found, list):
        return {one["name"]: one["template"] for one in found}
    return dict(found)


def special_tokens(bundle: Bundle) -> dict[str, str]:
    """Return the texts of special tokens by the names that chat templates know, such as `bos_token`."""
    values = {name: value for name, value in _config(bundle).items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def readable_config(bundle: Bundle) -> dict[str, Any]:
    """Return the configuration with special tokens as texts; empty for a bundle without one."""
    return _config(bundle) | special_tokens(bundle)


def _config(bundle: Bundle) -> dict[str, Any]:
    """Return the configuration; empty for a bundle without one."""
    file = bundle.folder / TOKENIZER_CONFIG
    config: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return config
