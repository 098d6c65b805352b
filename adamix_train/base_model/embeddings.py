"""Embeddings of a base: a tokenizer must not produce a token, token type or position beyond them."""

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from adamix_train.errors import BaseError
from adamix_train.peft_method.target_modules import reserved_positions

UNLIMITED = 1 << 30
MAX_NAMED = 3
"""Tokens that an error names."""


def max_positions(config: PretrainedConfig) -> int:
    """Return the number of tokens that a base has positions for; very large if positions are not limited."""
    rows: int = getattr(config.get_text_config(), "max_position_embeddings", None) or UNLIMITED
    return rows - reserved_positions(config.model_type, config.pad_token_id)


def check_embeddings(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, *, base: str, pairs: bool = False
) -> None:
    """Raise BaseError if a tokenizer can produce a token or, for a text or a pair, a token type that a base lacks."""
    _check_tokens(tokenizer, config, base)
    _check_types(tokenizer, config, base, ["a", "a"] if pairs else ["a"])


def _check_tokens(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, base: str) -> None:
    rows = getattr(config.get_text_config(), "vocab_size", UNLIMITED)
    beyond = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
    if beyond:
        named = ", ".join(f"{token!r} ({index})" for index, token in beyond[:MAX_NAMED])
        more = f" and {len(beyond) - MAX_NAMED} more" if len(beyond) > MAX_NAMED else ""
        raise BaseError(
            f"the tokenizer of {base} has tokens without an embedding: {named}{more}; the base has {rows} embeddings: "
            "add rows with transformers' resize_token_embeddings(len(tokenizer)) and save it, or remove these tokens"
        )


def _check_types(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, base: str, texts: list[str]) -> None:
    rows = getattr(config, "type_vocab_size", 0)
    largest = max(tokenizer(*texts).get("token_type_ids", [0]), default=0)
    if rows and largest >= rows:
        raise BaseError(
            f"the tokenizer of {base} gives token type {largest} to {'a pair' if len(texts) > 1 else 'a text'}; the "
            f"base has {rows} (type_vocab_size): remove token_type_ids from model_input_names in its "
            "tokenizer_config.json, or use a base with more token types"
        )
