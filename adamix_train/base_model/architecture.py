"""Architectures of bases: encoders, decoders, and both."""

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

ENCODER_DECODERS = ("t5", "mt5")
"""Model types of the encoder-decoders that can be exported."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Fields of a configuration that count the experts of a layer, which a router chooses from."""


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
    return None
