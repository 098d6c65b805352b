import pytest
from transformers import (
    AutoConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen3Config,
    StableLmConfig,
    T5Config,
)

from adamix_export.errors import ExportError
from adamix_export.tracing.sizes import AttentionSizes, attention_sizes

SIZES = {
    "gpt2": (GPT2Config(n_layer=2, n_embd=48, n_head=3), AttentionSizes(2, 48, 3, 3, 16)),
    "gpt_neo": (
        GPTNeoConfig(num_layers=2, hidden_size=64, num_heads=4, attention_types=[[["global"], 2]]),
        AttentionSizes(2, 64, 4, 4, 16),
    ),
    "opt": (OPTConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2), AttentionSizes(2, 64, 2, 2, 32)),
    "llama": (
        LlamaConfig(num_hidden_layers=3, hidden_size=64, num_attention_heads=4, num_key_value_heads=2),
        AttentionSizes(3, 64, 4, 2, 16),
    ),
    "qwen3": (
        Qwen3Config(num_hidden_layers=3, hidden_size=64, num_attention_heads=4, num_key_value_heads=1, head_dim=32),
        AttentionSizes(3, 64, 4, 1, 32),
    ),
    "t5": (T5Config(num_layers=2, d_model=64, num_heads=4, d_kv=8), AttentionSizes(2, 64, 4, 4, 8)),
    "stablelm, which optimum does not know": (
        StableLmConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2),
        AttentionSizes(2, 64, 4, 2, 16),
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_found_by_each_familys_own_names(name: str) -> None:
    config, sizes = SIZES[name]
    assert attention_sizes(config) == sizes


def test_a_family_that_names_no_sizes_is_told_what_to_name() -> None:
    class Strange(PretrainedConfig):
        model_type = "strange"

    with pytest.raises(ExportError, match=r"strange does not say .* name num_hidden_layers, hidden_size and num_att"):
        attention_sizes(Strange(width=64))


def test_a_size_named_in_the_configuration_is_enough() -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=1, hidden_size=32, num_attention_heads=2)
    assert attention_sizes(config).head_width == 16
