"""A merge into one of two tied layers leaves the other as it was."""

import copy

import peft
import pytest
import torch

from adamix_export.checkpoint.importers.tied import untie_adapted_embeddings
from tests.fixtures.tiny_models import tiny_inputs, tiny_model

INPUTS = tiny_inputs("gpt2")


@pytest.mark.parametrize("target", ["lm_head", "wte"])
def test_a_merge_changes_the_adapted_layer_alone(target: str) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[target], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(tiny_model("gpt2"), config).eval()
    tied = copy.deepcopy(adapted)
    untie_adapted_embeddings(adapted)
    with torch.inference_mode():
        expected = tied(**INPUTS).logits
        found = adapted.merge_and_unload()(**INPUTS).logits
        wrong = tied.merge_and_unload()(**INPUTS).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (wrong - expected).abs().max() > 1e-3, "the merge would have been right without it"


def test_a_model_without_adapted_ends_stays_tied() -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(tiny_model("gpt2"), config)
    untie_adapted_embeddings(model)
    base = model.get_base_model()
    assert base.lm_head.weight is base.transformer.wte.weight
