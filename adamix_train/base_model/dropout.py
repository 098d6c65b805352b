"""Dropout of a base model's own layers, by the names that transformers' configurations give it."""

from pathlib import Path

from adamix_train.base_model.load import load_config
from adamix_train.errors import BaseError

NAMES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout",
    "dropout_rate",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "classifier_dropout",
    "seq_classif_dropout",
)
"""Fields that are a probability of dropout, of the head's input too; one that is null follows another."""


def dropout_settings(base: Path, probability: float | None) -> dict[str, float]:
    """Return the fields of a base's configuration that give its layers a dropout; none if `probability` is None.

    Raises:
        BaseError: the base has no dropout that could be set.
    """
    if probability is None:
        return {}
    config = load_config(base)
    found = {name: probability for name in NAMES if isinstance(getattr(config, name, None), (int, float))}
    if not found:
        raise BaseError(f"{base} is a {config.model_type} without dropout: leave --base-dropout out")
    return found
