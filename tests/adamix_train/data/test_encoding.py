from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adamix_train.base_model.load import load_tokenizer
from adamix_train.data.encoding import Encoding, check_ends, encode_causal, encode_labels, encode_seq2seq
from adamix_train.data.examples import Example
from adamix_train.errors import DataError
from adamix_train.training.objectives import OBJECTIVES, objective_of
from tests.fixtures.example_files import encoding_of


@pytest.fixture
def encoding(generative_bases: dict[str, Path]) -> Encoding:
    return encoding_of(generative_bases["llama"])


def test_the_loss_is_on_the_target_and_the_end_only(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("parcel good",), "the parcel")], encoding)
    words = encoding.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert words == ["parcel", "good", "=>", "the", "parcel", "</s>"]
    assert row["labels"] == [-100, -100, -100, *row["input_ids"][3:]]
    logits = torch.randn(1, 6, 30)
    rows, labels = OBJECTIVES["generation"].rows(logits, torch.tensor([row["labels"]]))
    torch.testing.assert_close(rows, logits[0, 2:5])
    assert labels.tolist() == row["input_ids"][3:]


def test_a_long_sequence_loses_the_beginning_of_its_prompt(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("parcel " * 20 + "good",), "the parcel was fine")], encoding)
    words = encoding.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert len(words) == 12
    assert words[-7:] == ["good", "=>", "the", "parcel", "was", "fine", "</s>"]
    assert encoding.truncated == [27]


def test_a_target_that_is_too_long_is_cut_and_keeps_a_token_of_the_prompt(encoding: Encoding) -> None:
    (row,) = encode_causal([Example(("good",), "fine " * 20)], encoding)
    assert len(row["input_ids"]) == 12
    assert row["labels"][0] == -100
    assert -100 not in row["labels"][1:]


def test_strict_refuses_a_long_sequence(generative_bases: dict[str, Path]) -> None:
    for family, encode in (("llama", encode_causal), ("t5", encode_seq2seq)):
        with pytest.raises(DataError, match=r"has \d+ tokens and max_length is 12: 'good'"):
            encode([Example(("good",), "fine " * 20)], encoding_of(generative_bases[family], strict=True))


def test_an_encoder_decoder_has_the_prompt_as_input_and_the_target_as_labels(generative_bases: dict[str, Path]) -> None:
    (row,) = encode_seq2seq([Example(("good",), "fine " * 20)], encoding := encoding_of(generative_bases["t5"]))
    assert encoding.tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["good", "=>", "</s>"]
    assert encoding.tokenizer.convert_ids_to_tokens(row["labels"]) == ["fine"] * 11 + ["</s>"]
    assert objective_of("generation", encoder_decoder=True) is OBJECTIVES["sequence-to-sequence"]


def test_a_text_without_tokens_is_an_error_that_shows_it(encoding: Encoding) -> None:
    with pytest.raises(DataError, match="the tokenizer finds no tokens in '': leave the example out"):
        encode_labels([Example(("",), "no")], replace(encoding, labels=["no"]))


def test_texts_for_t5s_classifier_have_an_end_each(generative_bases: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(generative_bases["t5"])
    single, pair = Example(("good",), "a"), Example(("good", "fine"), "a")
    for example in (single, pair):
        row = {"input_ids": tokenizer(*example.texts)["input_ids"]}
        check_ends([row], [example], tokenizer)
        with pytest.raises(DataError, match=r"'good' has \d end-of-sequence tokens \(</s>\)"):
            check_ends([{"input_ids": [2, *row["input_ids"]]}], [example], tokenizer)
    endless = load_tokenizer(generative_bases["llama"])
    with pytest.raises(DataError, match="needs 1: use a tokenizer that ends every text with one"):
        check_ends([{"input_ids": [4]}], [single], endless)
