"""The synchronous engine over a decoder that is computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from serve.errors import BundleError, InputError, UnknownAdapter
from serve.generated_text import FinishReason
from serve.generation.generator import Generator
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import END, NAMES, HandComputedDecoder, random_decoder, write_decoder_bundle


def test_results_are_those_computed_by_hand_in_the_order_of_the_inputs(
    generator: Generator, decoder: HandComputedDecoder
) -> None:
    inputs, names = ["good bad", "late", "the bill is late"], ["north", "base", "west"]
    results = generator(inputs, adapter=names, max_new_tokens=6)
    for result, text, name in zip(results, inputs, names, strict=True):
        ids = generator.tokenizer.encode(text).ids
        expected = decoder.greedy(ids, None if name == "base" else name, 6)
        assert (result.adapter, result.tokens, result.prompt_tokens) == (name, expected, len(ids))
        assert result.sha256 == generator.find(name).card.sha256
        assert result.finish_reason is (FinishReason.LENGTH if len(expected) == 6 else FinishReason.STOP)
        assert result.text == result.text.strip() == generator.tokenizer.decode(expected).strip()


def test_a_stream_is_the_text_in_pieces(generator: Generator) -> None:
    sampling = SamplingParams(max_new_tokens=6, logit_bias={END: -100})
    pieces = list(generator.stream("good bad", adapter="north", sampling=sampling))
    (whole,) = generator("good bad", adapter="north", sampling=sampling)
    assert len(pieces) > 1 and "".join(pieces).strip() == whole.text
    with pytest.raises(InputError, match="n is 2: a stream has one text"):
        next(generator.stream("good", adapter="north", sampling=SamplingParams(n=2)))


def test_an_unknown_adapter_is_refused(generator: Generator) -> None:
    with pytest.raises(UnknownAdapter):
        generator("good", adapter="east")


def test_an_adapter_that_does_not_give_its_canary_logits_is_not_served(
    decoder: HandComputedDecoder, tmp_path: Path
) -> None:
    other = random_decoder(seed=5)
    folder = write_decoder_bundle(tmp_path / "bundle", HandComputedDecoder(decoder.weights, other.adapters))
    Generator(folder, provider="cpu", threads=1)
    mixed = write_decoder_bundle(tmp_path / "mixed", _Wrong(decoder.weights, other.adapters))
    with pytest.raises(BundleError, match="does not give the logits that it gave in PyTorch on its canary rows"):
        Generator(mixed, provider="cpu", threads=1)


class _Wrong(HandComputedDecoder):
    """A decoder whose cards have other logits than its graph."""

    def logits(self, ids: list[int], adapter: str | None) -> np.ndarray:
        return super().logits(ids, adapter) + 1


def test_the_base_model_is_served_by_its_own_name(generator: Generator, decoder: HandComputedDecoder) -> None:
    assert [*generator.cards] == NAMES
    assert generator.find("base").card.sha256 == generator.bundle.manifest.base["sha256"]
    ids = generator.tokenizer.encode("good").ids
    assert generator("good", adapter="base", max_new_tokens=5)[0].tokens == decoder.greedy(ids, None, 5)
