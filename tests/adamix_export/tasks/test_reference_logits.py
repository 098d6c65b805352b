from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adamix_export.tasks.reference_logits import CAUSAL, SEQ2SEQ
from adamix_train.data.encoding import IGNORED, Encoding, encode_causal, encode_seq2seq
from tests.fixtures.example_files import one
from tests.fixtures.random_checkpoints import make_tokenizer
from tests.fixtures.tiny_models import tiny_model

PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
TOKENS = [[20, 21], [22, 23, 24, 25], [26]]


def checkpoint(family: str) -> Any:
    """A model whose weights are large enough for padding to show, if it were attended to."""
    scale = {"initializer_factor": 3.0} if family == "t5" else {"initializer_range": 0.3}
    return SimpleNamespace(reference=tiny_model(family, **scale), tokenizer=make_tokenizer(typed=False))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoders_logits_are_those_before_each_token_as_for_a_row_alone(family: str) -> None:
    given = checkpoint(family)
    found = CAUSAL.logits(given, PROMPTS, TOKENS)
    for prompt, tokens, logits in zip(PROMPTS, TOKENS, found, strict=True):
        with torch.inference_mode():
            alone = given.reference(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
        np.testing.assert_allclose(logits, alone[len(prompt) - 1 : -1].numpy(), atol=1e-4)


def test_an_encoder_decoders_logits_are_those_before_each_token_as_for_a_row_alone() -> None:
    given = checkpoint("t5")
    start = given.reference.config.decoder_start_token_id
    found = SEQ2SEQ.logits(given, PROMPTS, TOKENS)
    for prompt, tokens, logits in zip(PROMPTS, TOKENS, found, strict=True):
        inputs = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([[start, *tokens[:-1]]])}
        with torch.inference_mode():
            alone = given.reference(**inputs).logits[0].numpy()
        np.testing.assert_allclose(logits, alone, atol=1e-4)


def test_targets_and_shortened_prompts_are_those_of_training() -> None:
    """With single bytes for tokens, of which a space is one; every text but a decoder's target ends in a token."""
    alphabet = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    encoding = Encoding(tokenizer=tokenizer, max_length=12)
    for layout, encode, count in ((CAUSAL, encode_causal, len(" good")), (SEQ2SEQ, encode_seq2seq, len("good"))):
        (row,) = encode([one("a long text indeed", "good")], encoding)
        learned = [token for token in row["labels"] if token != IGNORED]
        target = layout.target(tokenizer, "good")
        assert (len(target), [*target, tokenizer.eos_token_id]) == (count, learned)
        prompt = tokenizer("a long text indeed")["input_ids"]
        trained = row["input_ids"][: -len(learned)] if layout is CAUSAL else row["input_ids"]
        assert layout.shorten(prompt, len(trained)) == trained
        assert len(trained) < len(prompt)
