from pathlib import Path

from serve.args import parse_args
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.limits import BATCH_TOKENS, DEFAULT_MAX_NEW_TOKENS, BatchLimits, GenerationLimits
from serve.runtime.providers import PROVIDERS

GENERATE = " ".join((Path(__file__).parents[2] / "docs" / "generate.md").read_text().split())


def test_generation_has_the_limits_that_its_page_names() -> None:
    limits = GenerationLimits()
    assert (
        f"`serve.GenerationLimits(max_batch_requests={limits.max_batch_requests}, "
        f"max_queued_requests={limits.max_queued_requests}, max_tokens_in_flight={limits.max_tokens_in_flight:_})`"
    ) in GENERATE
    assert f"greedy decoding of at most {DEFAULT_MAX_NEW_TOKENS} tokens" in GENERATE


def test_every_provider_that_can_be_chosen_has_a_size_of_its_batches() -> None:
    assert BATCH_TOKENS.keys() == {provider for provider in PROVIDERS.values() if provider is not None}


def test_a_program_and_the_command_line_batch_alike_on_the_cpu(classifier: Classifier) -> None:
    assert AsyncClassifier(classifier).limits == BatchLimits()
    assert parse_args(["bundle"]).timeout == BatchLimits().timeout
