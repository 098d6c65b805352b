"""The padding token of a tokenizer and of a model."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from adamix_train.base_model.padding import pad_as, padding_token


@pytest.fixture
def tokenizer(generative_bases: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(generative_bases["llama"], pad_token="</s>")


def test_a_configured_padding_token_must_be_one_of_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    found = [
        padding_token(tokenizer, AutoConfig.for_model("llama", pad_token_id=index)) for index in (0, -1, 999, None)
    ]
    assert found == ["<pad>", None, None, None]


@pytest.mark.parametrize(("family", "configured", "found"), [("llama", 0, 2), ("llama", -1, 2), ("bert", 0, 0)])
def test_a_decoder_looks_for_the_token_that_its_tokenizer_pads_with(
    family: str, configured: int, found: int, tokenizer: PreTrainedTokenizerBase
) -> None:
    config = AutoConfig.for_model(family, pad_token_id=configured)
    pad_as(tokenizer, config)
    assert config.pad_token_id == found


def test_a_model_without_a_padding_token_takes_that_of_its_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    config = AutoConfig.for_model("roberta", pad_token_id=None)
    pad_as(tokenizer, config)
    assert config.pad_token_id == 2
