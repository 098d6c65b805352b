"""The padding token: a decoder's classifier reads the last token before it."""

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from adamix_train.base_model.architecture import is_decoder


def padding_token(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> str | None:
    """Return the padding token that a configuration names, or None if that is no token of the tokenizer."""
    index = config.get_text_config().pad_token_id
    if index is None or not 0 <= index < len(tokenizer):
        return None
    return str(tokenizer.convert_ids_to_tokens(index))


def pad_as(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Make a model look for the padding token of its tokenizer, if it names none or reads the token before it."""
    text = config.get_text_config()
    if text.pad_token_id is None or is_decoder(config):
        text.pad_token_id = config.pad_token_id = tokenizer.pad_token_id
