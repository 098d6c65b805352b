"""Check that a checkpoint's base has an embedding for everything that its tokenizer can produce."""

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_train.base_model.embeddings import check_embeddings, max_positions
from adamix_train.base_model.load import check_tokenizer, load_config
from adamix_train.errors import BaseError


def check_embeddings_of(checkpoint: Checkpoint) -> None:
    """Raise a `BaseError` if the base lacks an embedding for a token, a token type or a position of some text."""
    config, folder = load_config(checkpoint.base), str(checkpoint.folder)
    check_tokenizer(checkpoint.tokenizer, folder)
    check_embeddings(checkpoint.tokenizer, config, base=folder, pairs=checkpoint.pairs)
    if checkpoint.card.max_length > (most := max_positions(config)):
        raise BaseError(
            f"{folder} was trained with a max_length of {checkpoint.card.max_length}; its base has positions for "
            f"{most} tokens: train it again with --max-length {most}"
        )
