import peft
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    PreTrainedModel,
    RobertaConfig,
)

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.peft_method import AdaMixConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "prefix"}, "kind is 'prefix'; known are houlsby, lora"),
        ({"share": "both"}, "share is 'both'"),
        ({"num_modules": 0}, "num_modules is 0; it must be at least 1"),
        ({"r": 0}, "r is 0"),
        ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaMixConfig(**fields)


ROBERTA_LARGE = RobertaConfig(
    vocab_size=50265,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    max_position_embeddings=514,
)


BERT_BASE = BertConfig()


GPT2_MEDIUM = GPT2Config(n_embd=1024, n_layer=24, n_head=16)


def counts(config: object, **fields: object) -> tuple[int, int, int]:
    """Return the parameters of the mixtures after a collapse, in training, and of the base."""
    causal = isinstance(config, GPT2Config)
    with torch.device("meta"):
        model: PreTrainedModel = (AutoModelForCausalLM if causal else AutoModelForSequenceClassification).from_config(
            config
        )
        base = sum(weight.numel() for weight in model.parameters())
        adapted = peft.get_peft_model(
            model, AdaMixConfig(task_type="CAUSAL_LM" if causal else "SEQ_CLS", **fields), low_cpu_mem_usage=True
        )
    mixtures = [module for module in adapted.modules() if isinstance(module, MixtureLinear)]
    trained = sum(weight.numel() for mixture in mixtures for weight in mixture.parameters())
    return sum(weight[0].numel() for mixture in mixtures for weight in mixture.parameters()), trained, base


@pytest.mark.parametrize(
    ("config", "fields", "collapsed", "trained"),
    [
        (ROBERTA_LARGE, {"r": 16, "num_modules": 4}, 811_392, 1_992_192),
        (ROBERTA_LARGE, {"r": 16, "num_modules": 4, "share": "none"}, 811_392, 3_245_568),
        (BERT_BASE, {"r": 48, "num_modules": 4}, 894_528, 2_223_360),
        (BERT_BASE, {"r": 48, "num_modules": 4, "share": "none"}, 894_528, 3_578_112),
        (GPT2_MEDIUM, {"r": 8, "num_modules": 8}, 417_984, 1_795_584),
        (GPT2_MEDIUM, {"r": 4, "num_modules": 8, "kind": "lora"}, 393_216, 1_769_472),
    ],
)
def test_the_paper_s_settings_have_the_original_s_parameters(
    config: object, fields: dict[str, object], collapsed: int, trained: int
) -> None:
    assert counts(config, **fields)[:2] == (collapsed, trained)


def test_after_a_collapse_a_mixture_is_as_small_as_one_adapter() -> None:
    one = counts(ROBERTA_LARGE, r=16, num_modules=1)
    mixture = counts(ROBERTA_LARGE, r=16, num_modules=4)
    assert mixture[0] == one[0] == one[1]
    share = mixture[0] / mixture[2]
    assert 0.0022 < share < 0.0024, "the paper says 0.23 %"
    assert 0.0011 < counts(ROBERTA_LARGE, r=8, num_modules=4)[0] / mixture[2] < 0.0013
