"""Architectures told from configurations."""

from contextlib import suppress
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from adamix_train.base_model.architecture import OWN_ATTENTION, is_decoder, is_encoder, why_not_exported


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


@pytest.mark.parametrize(
    ("family", "fields", "reason"),
    [
        ("llama", {}, None),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, None),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "has rotary embeddings dynamic"),
        ("gemma3_text", {}, "has rotary embeddings of each layer type"),
        ("phi", {}, "has rotary embeddings of a part of each head"),
        ("llama", {"hidden_size": 96, "num_attention_heads": 4}, "has heads 24 wide"),
        ("gpt2", {}, None),
        *((family, {}, f"is a {family}, whose own kind of attention") for family in OWN_ATTENTION),
    ],
)
def test_a_configuration_tells_what_cannot_be_exported_with_a_cache(
    family: str, fields: dict[str, Any], reason: str | None
) -> None:
    """A classifier of the same base has no cache."""
    config = AutoConfig.for_model(family, **fields)
    found = why_not_exported(config, generates=True)
    assert found is None if reason is None else found is not None and found.startswith(reason)
    assert why_not_exported(config, generates=False) is None


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_families_with_their_own_attention_do_not_take_another(family: str) -> None:
    """Transformers keeps their own when it is told to use an implementation of ours."""
    small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 16}
    config = AutoConfig.for_model(family)
    for name, value in small.items():
        setattr(config, name, value)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    AttentionInterface.register("ours", lambda *_, **__: None)
    with suppress(ValueError):
        model.set_attn_implementation("ours")
    assert model.config._attn_implementation != "ours"
