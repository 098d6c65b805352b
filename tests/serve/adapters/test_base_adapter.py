from pathlib import Path

import pytest

from serve.adapters.base_adapter import base_adapter
from serve.bundle.reader import Bundle, open_bundle
from tests.fixtures.hand_computed_decoder import CONTEXT, END, random_decoder, write_decoder_bundle
from tests.serve.conftest import BASE, tokenizer_sha256


@pytest.fixture
def decoder_bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_decoder_bundle(tmp_path / "decoder", random_decoder()))


def test_the_base_has_no_weights_and_no_labels(decoder_bundle: Bundle) -> None:
    adapter = base_adapter(decoder_bundle)
    assert adapter.empty
    assert (adapter.card.name, adapter.card.kind, adapter.card.r, adapter.card.labels) == ("base", "none", 0, [])


def test_the_base_is_known_by_the_hashes_of_its_bundle(decoder_bundle: Bundle) -> None:
    card = base_adapter(decoder_bundle).card
    assert (card.sha256, card.base_sha256, card.tokenizer_sha256) == (BASE, BASE, tokenizer_sha256())


def test_its_context_and_its_end_are_those_of_the_configuration(decoder_bundle: Bundle) -> None:
    card = base_adapter(decoder_bundle).card
    assert (card.max_length, card.eos_token_ids) == (CONTEXT, [END])


def test_its_prompt_is_the_text_itself(decoder_bundle: Bundle) -> None:
    assert base_adapter(decoder_bundle).card.prompt.replace("{input}", "good bill") == "good bill"


def test_a_base_without_a_configuration_takes_512_tokens_and_has_no_end(bundle: Bundle) -> None:
    card = base_adapter(bundle).card
    assert (card.max_length, card.eos_token_ids) == (512, [])
