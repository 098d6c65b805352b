from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertConfig, PreTrainedTokenizerFast

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.embeddings import check_embeddings_of
from adamix_export.checkpoint.importers.mixture import MixtureImporter
from adamix_train.artifacts.checkpoint import Card
from adamix_train.errors import BaseError
from adamix_train.peft_method import AdaMixConfig

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2}


def checkpoint(folder: Path, *, max_length: int = 8, **tokenizer: Any) -> Checkpoint:
    """A checkpoint whose base has 3 embeddings and 8 positions."""
    BertConfig(vocab_size=3, max_position_embeddings=8).save_pretrained(folder / "base")
    words = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", **tokenizer)
    made.save_pretrained(folder / "run")
    card = Card(
        base="base",
        base_sha256="",
        config_sha256="",
        data={},
        task="sst2",
        labels=["negative", "positive"],
        metric="accuracy",
        max_length=max_length,
        recipe={},
    )
    return Checkpoint("tone", folder / "run", card, MixtureImporter(AdaMixConfig()), folder / "base", "classification")


def test_a_length_up_to_the_bases_positions_passes(tmp_path: Path) -> None:
    check_embeddings_of(checkpoint(tmp_path, max_length=8))


def test_a_longer_input_than_the_base_has_positions_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"max_length of 9; its base has positions for 8 tokens: .*--max-length 8"):
        check_embeddings_of(checkpoint(tmp_path, max_length=9))


def test_a_token_without_an_embedding_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"tokens without an embedding: '\[BAD\]' \(3\); the base has 3 embeddings"):
        check_embeddings_of(checkpoint(tmp_path, cls_token="[BAD]"))


def test_a_tokenizer_that_serving_cannot_repeat_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="splits special tokens"):
        check_embeddings_of(checkpoint(tmp_path, split_special_tokens=True))
