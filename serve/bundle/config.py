"""Facts of the base model's configuration, `config.json`."""

from collections.abc import Sequence
from typing import Annotated, Any

from serve.bundle.checked_json import read_json
from serve.bundle.fields import MAX_COUNT, Bounds, Count, TokenId, read_value
from serve.bundle.manifest import CONFIG, GENERATION_CONFIG
from serve.bundle.reader import Bundle
from serve.errors import BundleError

WIDTH_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
"""Names that model families give to the width of a token's state."""
Positions = Annotated[int, Bounds(1, MAX_COUNT)]
CONTEXT_KEYS = ("max_position_embeddings", "n_positions")
"""Names that model families give to their longest sequence."""


def context_length(bundle: Bundle) -> int | None:
    """Return the model's longest sequence in tokens, or None if its configuration does not say.

    Raises:
        BundleError: It says something else than a number of tokens; so do the other functions.
    """
    return _first_of(bundle, CONTEXT_KEYS, Positions)


def eos_token_ids(bundle: Bundle) -> list[int]:
    """Return the end-of-sequence tokens of the base model: those that it generates with, if the bundle says them."""
    ends = _config(bundle, GENERATION_CONFIG).get("eos_token_id")
    ends = _config(bundle).get("eos_token_id") if ends is None else ends
    if ends is None:
        return []
    where = f"{bundle.folder}: eos_token_id of the base"
    return read_value(list[TokenId], ends if isinstance(ends, list) else [ends], where)


def vocab_size(bundle: Bundle) -> int | None:
    """Return the number of tokens that the base model has embeddings for, or None if its configuration does not say."""
    return read_value(Count | None, _config(bundle).get("vocab_size"), f"{bundle.folder / CONFIG}: vocab_size")


def hidden_width(bundle: Bundle) -> int | None:
    """Return the width of a token's state, or None if the configuration does not say."""
    return _first_of(bundle, WIDTH_KEYS, Count)


def _first_of(bundle: Bundle, keys: Sequence[str], kind: Any) -> int | None:
    """Return the value of the first of some keys that the configuration has, or None if it has none."""
    config = _config(bundle)
    key = next((key for key in keys if config.get(key)), None)
    return None if key is None else read_value(kind, config[key], f"{bundle.folder / CONFIG}: {key}")


def _config(bundle: Bundle, name: str = CONFIG) -> dict[str, Any]:
    """Return a configuration; empty for a bundle without it."""
    file = bundle.folder / name
    config = read_json(file) if file.is_file() else {}
    if not isinstance(config, dict):
        raise BundleError(f"{file} is no JSON object: export it again")
    return config
