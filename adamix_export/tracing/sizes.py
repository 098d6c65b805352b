"""Sizes of a model's attention, by the names that its family gives them, which optimum knows."""

from dataclasses import dataclass

from optimum.utils import NormalizedConfigManager, NormalizedTextConfigWithGQA
from transformers import PretrainedConfig

from adamix_export.errors import ExportError


@dataclass(frozen=True)
class AttentionSizes:
    """Sizes of the attention of a decoder."""

    layers: int
    hidden_size: int
    heads: int
    key_value_heads: int
    """Heads of keys and values, which groups of `heads` share."""
    head_width: int


def attention_sizes(config: PretrainedConfig) -> AttentionSizes:
    """Return the sizes; raise an `ExportError` that says how to name one that cannot be found.

    A family that optimum does not know is read by transformers' ordinary names.
    """
    try:
        family = NormalizedConfigManager.get_normalized_config_class(config.model_type)
    except KeyError:
        family = NormalizedTextConfigWithGQA
    named = family(config)
    try:
        layers, hidden_size, heads = named.num_layers, named.hidden_size, named.num_attention_heads
    except AttributeError as error:
        raise ExportError(
            f"the configuration of {config.model_type} does not say how large its attention is ({error}): name "
            "num_hidden_layers, hidden_size and num_attention_heads in its config.json"
        ) from error
    shared = named.num_key_value_heads if named.has_attribute("num_key_value_heads") else heads
    width = named.head_dim if named.has_attribute("head_dim") else hidden_size // heads
    return AttentionSizes(layers, hidden_size, heads, shared, width)
