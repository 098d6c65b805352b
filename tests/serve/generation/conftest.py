"""A generator over a decoder that is computed by hand."""

import pytest

from serve.generation.generator import Generator
from tests.fixtures.hand_computed_decoder import HandComputedDecoder, random_decoder, write_decoder_bundle


@pytest.fixture(scope="session")
def decoder() -> HandComputedDecoder:
    return random_decoder()


@pytest.fixture(scope="session")
def generator(decoder: HandComputedDecoder, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """Three adapters and two slots."""
    folder = write_decoder_bundle(tmp_path_factory.mktemp("decoder") / "bundle", decoder)
    return Generator(folder, provider="cpu", threads=1, slots=2)
