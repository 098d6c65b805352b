"""Tiny decoders as llama.cpp reads them: what its own converter makes, for Llama and GPT-2 in fp32."""

from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM

from adamix_export.converters.gguf_lora import write_all


def write_base(folder: Path, file: Path) -> Path:
    """Write the model in `folder` with a vocabulary of made-up words; prompts are token ids."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config, family = model.config, model.config.model_type
    architecture = {"llama": gguf.MODEL_ARCH.LLAMA, "gpt2": gguf.MODEL_ARCH.GPT2}[family]
    writer = gguf.GGUFWriter(file, family)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if family == "llama":
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    else:
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    _add_vocabulary(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        found = names.get_name(name, (".weight", ".bias"))
        if found is not None:
            writer.add_tensor(found, _in_its_order(name, tensor, config).contiguous().numpy())
    write_all(writer)
    return file


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(3, size))])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3, *([1] * (size - 3))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def _in_its_order(name: str, tensor: torch.Tensor, config: object) -> torch.Tensor:
    """Turn GPT-2's matrices round; interleave the halves of each head of Llama's queries and keys."""
    if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return tensor.T
    for end, heads in (("q_proj.weight", "num_attention_heads"), ("k_proj.weight", "num_key_value_heads")):
        if name.endswith(end):
            width = tensor.shape[0] // getattr(config, heads)
            order = [row + half * width // 2 for row in range(width // 2) for half in (0, 1)]
            rows = [head * width + row for head in range(getattr(config, heads)) for row in order]
            return tensor[rows]
    return tensor
