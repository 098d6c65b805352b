import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks.gpu.bundles import ADAPTER, open_prepared, with_many
from benchmarks.gpu.setting import Setting
from benchmarks.support.errors import BenchmarkError
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from serve.generation.prompts import Prompt

pytestmark = pytest.mark.slow
TEXT = "w1 w2 w3"


def test_a_bundle_and_the_merged_folder_are_one_model(prepared: Setting) -> None:
    classifier = Classifier(open_prepared("minilm-lora-merged", prepared), provider="cpu")
    (found,) = classifier(TEXT)
    ids = torch.tensor([classifier.encode(TEXT, None, truncate=True).input_ids])
    model = AutoModelForSequenceClassification.from_pretrained(prepared.merged("minilm"), dtype=torch.float32).eval()
    np.testing.assert_allclose(found.logits, model(input_ids=ids).logits[0].detach().numpy(), atol=1e-3)


def test_a_bank_of_many_has_the_merged_adapter_and_others_that_differ(prepared: Setting) -> None:
    merged = Classifier(open_prepared("minilm-houlsby-merged", prepared), provider="cpu")
    bank = Classifier(with_many(open_prepared("minilm-houlsby-bank", prepared), 2), provider="cpu")
    (expected,) = merged(TEXT)
    own, one, two = bank([TEXT] * 3, adapter=[ADAPTER, "a0", "a1"])
    np.testing.assert_allclose(own.logits, expected.logits, atol=1e-3)
    assert len({own.sha256, one.sha256, two.sha256}) == 3
    assert len({own.logits.tobytes(), one.logits.tobytes(), two.logits.tobytes()}) == 3


def test_a_decoder_is_the_model_that_pytorch_reads(made: Setting) -> None:
    generator = Generator(open_prepared("gpt2-medium-merged", made), provider="cpu")
    (logits,) = generator.forced_logits([Prompt([5, 6, 7], generator.registry.find(None))], [[0]])
    model = AutoModelForCausalLM.from_pretrained(made.merged("gpt2-medium"), dtype=torch.float32).eval()
    expected = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].detach().numpy()
    np.testing.assert_allclose(logits[0], expected, atol=5e-3)


def test_a_bundle_that_was_not_made_is_named(prepared: Setting) -> None:
    with pytest.raises(BenchmarkError, match="bundles/none is missing"):
        open_prepared("none", prepared)
