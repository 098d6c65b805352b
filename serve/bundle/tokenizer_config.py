"""Facts of the tokenizer's configuration, `tokenizer_config.json`: chat templates and the texts of special tokens."""

from typing import Any

from serve.bundle.checked_json import read_json
from serve.bundle.fields import Text, read_value
from serve.bundle.manifest import TOKENIZER_CONFIG
from serve.bundle.reader import Bundle
from serve.errors import BundleError

DEFAULT_TEMPLATE = "default"
"""Name of the chat template that is used unless another one is meant for the request."""


def chat_templates(bundle: Bundle) -> dict[str, str]:
    """Return the chat templates of the base by name; empty if it has none."""
    found = _config(bundle).get("chat_template") or {}
    where = f"{bundle.folder / TOKENIZER_CONFIG}: chat_template"
    if isinstance(found, list):
        named = read_value(list[dict[str, Text]], found, where)
        if not all(one.keys() >= {"name", "template"} for one in named):
            raise BundleError(f"{where} has an entry without a name or a template: export it again")
        return {one["name"]: one["template"] for one in named}
    return read_value(dict[str, Text], {DEFAULT_TEMPLATE: found} if isinstance(found, str) else found, where)


def special_tokens(bundle: Bundle) -> dict[str, str]:
    """Return the texts of special tokens by the names that chat templates know, such as `bos_token`."""
    values = {name: value for name, value in _config(bundle).items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def readable_config(bundle: Bundle) -> dict[str, Any]:
    """Return the configuration with special tokens as texts; empty for a bundle without one."""
    return read_value(dict[str, Any], _config(bundle), str(bundle.folder / TOKENIZER_CONFIG)) | special_tokens(bundle)


def _config(bundle: Bundle) -> dict[str, Any]:
    """Return the configuration; empty for a bundle without one."""
    file = bundle.folder / TOKENIZER_CONFIG
    config = read_json(file) if file.is_file() else {}
    if not isinstance(config, dict):
        raise BundleError(f"{file} is no JSON object: export it again")
    return config
