"""Architectures of bases: encoders, decoders, and both."""

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

CLASSIFYING_ENCODER_DECODERS = ("t5", "mt5")
"""Model types of encoder-decoders with a classification head that can be exported."""


def is_encoder(config: PretrainedConfig) -> bool:
    """Return True if a base was made for masked language modelling, and so cannot generate."""
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return masked and not config.is_encoder_decoder


def is_decoder(config: PretrainedConfig) -> bool:
    """Return True if a base is a decoder alone, whose classifier reads the last token."""
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()
    return config.get_text_config().model_type in names and not config.is_encoder_decoder


def why_not_classifier(config: PretrainedConfig) -> str | None:
    """Return why a base with a classification head cannot be exported, as far as its configuration shows it."""
    if config.is_encoder_decoder and config.model_type not in CLASSIFYING_ENCODER_DECODERS:
        return (
            f"an encoder-decoder of type {config.model_type} cannot be exported as a classifier; supported are "
            f"{', '.join(CLASSIFYING_ENCODER_DECODERS)}"
        )
    if is_decoder(config) and getattr(config.get_text_config(), "attn_logit_softcapping", None):
        return f"{config.model_type} has soft-capped attention, which a classifier's graph does not have"
    return None
