"""Architectures of bases: encoders, decoders, and both."""

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

ENCODER_DECODERS = ("t5", "mt5")
"""Model types of the encoder-decoders that can be exported."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Fields of a configuration that count the experts of a layer, which a router chooses from."""
OWN_ATTENTION = ("bloom", "codegen", "falcon", "gpt_neo", "gptj", "mpt", "xglm")
"""Model types of decoders that do not use transformers' attention interface, which a graph with a cache needs."""
STATIC_ROTARY = ("default", "linear", "llama3", "yarn")
"""Types of rotary embeddings whose angles do not depend on the sequence length."""
HEAD_WIDTH_MULTIPLE = 16
"""Divisor of the head width that ONNX Runtime's rotary embeddings require."""


def is_encoder(config: PretrainedConfig) -> bool:
    """Return True if a base was made for masked language modelling, and so cannot generate."""
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return masked and not config.is_encoder_decoder


def is_decoder(config: PretrainedConfig) -> bool:
    """Return True if a base is a decoder alone, whose classifier reads the last token."""
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()
    return config.get_text_config().model_type in names and not config.is_encoder_decoder


def why_not_exported(config: PretrainedConfig, *, generates: bool) -> str | None:
    """Return why a base cannot be exported once it has learned, as far as its configuration shows it.

    Args:
        config: configuration of the base.
        generates: True for a generator, False for a classifier.
    """
    text = config.get_text_config()
    if config.is_encoder_decoder and config.model_type not in ENCODER_DECODERS:
        return f"is an encoder-decoder of type {config.model_type}; {', '.join(ENCODER_DECODERS)} can be exported"
    if any(getattr(text, name, None) for name in EXPERTS):
        return f"is a {config.model_type}, whose mixture of experts cannot be exported"
    if not generates and getattr(text, "attn_logit_softcapping", None):
        return f"is a {config.model_type}, whose soft-capped attention cannot be exported in a classifier"
    return _why_not_cached(text) if generates else None


def _why_not_cached(text: PretrainedConfig) -> str | None:
    """Return why a decoder cannot be exported with a KV cache."""
    if text.model_type in OWN_ATTENTION:
        return f"is a {text.model_type}, whose own kind of attention cannot be exported in a generator"
    rotary = getattr(text, "rope_parameters", None)
    if not rotary:
        return None
    if (kind := rotary.get("rope_type", "of each layer type")) not in STATIC_ROTARY:
        return f"has rotary embeddings {kind}, which cannot be exported in a generator: {', '.join(STATIC_ROTARY)} can"
    if rotary.get("partial_rotary_factor", 1.0) != 1.0:
        return "has rotary embeddings of a part of each head, which cannot be exported in a generator"
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if width % HEAD_WIDTH_MULTIPLE:
        return f"has heads {width} wide, and a generator can be exported with a multiple of {HEAD_WIDTH_MULTIPLE}"
    return None
