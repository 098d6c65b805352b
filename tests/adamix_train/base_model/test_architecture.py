"""Architectures told from configurations."""

import pytest
from transformers import AutoConfig

from adamix_train.base_model.architecture import is_decoder, is_encoder, why_not_exported


@pytest.mark.parametrize(
    ("family", "encoder", "decoder"),
    [
        ("bert", True, False),
        ("deberta-v2", True, False),
        ("gpt2", False, True),
        ("qwen3", False, True),
        ("smollm3", False, True),
        ("t5", False, False),
    ],
)
def test_an_architecture_is_one_of_three(family: str, encoder: bool, decoder: bool) -> None:
    config = AutoConfig.for_model(family)
    assert (is_encoder(config), is_decoder(config)) == (encoder, decoder)


def test_an_encoder_that_was_made_a_decoder_can_generate() -> None:
    assert not is_encoder(AutoConfig.for_model("bert", is_decoder=True))


@pytest.mark.parametrize(
    ("family", "generates", "reason"),
    [
        ("bert", False, None),
        ("llama", False, None),
        ("mt5", False, None),
        ("gemma2", True, None),
        ("bart", False, "is an encoder-decoder of type bart; t5, mt5 can be exported"),
        ("bart", True, "is an encoder-decoder of type bart; t5, mt5 can be exported"),
        ("mixtral", True, "is a mixtral, whose mixture of experts cannot be exported"),
        ("qwen3_moe", False, "is a qwen3_moe, whose mixture of experts cannot be exported"),
        ("gemma2", False, "is a gemma2, whose soft-capped attention cannot be exported in a classifier"),
    ],
)
def test_a_configuration_tells_what_cannot_be_exported(family: str, generates: bool, reason: str | None) -> None:
    assert why_not_exported(AutoConfig.for_model(family), generates=generates) == reason
