"""A few thousand parameters of every family, with random weights."""

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

ENCODER = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "num_labels": 3,
    "pad_token_id": 0,
}
DECODER = {
    **{name: value for name, value in ENCODER.items() if name != "num_labels"},
    "num_key_value_heads": 1,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {
    "vocab_size": 50,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
ENCODERS = {
    "bert": ENCODER,
    "deberta-v2": {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "num_labels": 3},
    "electra": {**ENCODER, "embedding_size": 16},
    "modernbert": {
        **ENCODER,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "attn_implementation": "eager",
    },
    "roberta": ENCODER,
    "xlm-roberta": ENCODER,
}
DECODERS = {
    "gpt2": {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "eos_token_id": 2},
    "llama": DECODER,
    "mistral": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER,
    "smollm3": DECODER,
}
SEQUENCE_TO_SEQUENCE = {"t5": T5, "mt5": T5}
TASK_TYPES = {
    **dict.fromkeys(ENCODERS, "SEQ_CLS"),
    **dict.fromkeys(DECODERS, "CAUSAL_LM"),
    **dict.fromkeys(SEQUENCE_TO_SEQUENCE, "SEQ_2_SEQ_LM"),
}
CLASSES = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM,
}


def tiny_model(family: str, *, seed: int = 0, **settings: object) -> PreTrainedModel:
    """Return a random model of a family, without dropout."""
    torch.manual_seed(seed)
    common = {**ENCODERS, **DECODERS, **SEQUENCE_TO_SEQUENCE}[family]
    config = AutoConfig.for_model(family, **{**common, **settings})
    model = CLASSES[TASK_TYPES[family]].from_config(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.eval()


def tiny_inputs(family: str) -> dict[str, torch.Tensor]:
    """Return a batch of three rows, the last of which is padded."""
    torch.manual_seed(1)
    ids = torch.randint(3, 50, (3, 7))
    mask = torch.ones_like(ids)
    mask[2, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family in SEQUENCE_TO_SEQUENCE:
        inputs["decoder_input_ids"] = torch.randint(3, 50, (3, 4))
    return inputs
