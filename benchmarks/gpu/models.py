"""The models and bundles of a run.

MiniLM is prepared where there is a network. The others have random weights in the shape of the model that they are
named after, and are made on the machine with the GPU: times depend on shapes, and only tokenizers and configurations
travel.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.setting import Setting

CLASSIFICATION, GENERATION = "classification", "generation"
WEIGHTS = "model.safetensors"
TINY_VOCABULARY = 300
TINY = {
    "vocab_size": TINY_VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base model."""

    family: str
    """Its `model_type`."""
    task: str
    config: dict[str, Any]
    """Fields of its configuration; those of a sample model are its own."""
    tiny: dict[str, Any]
    """Fields that a rehearsal sets instead."""
    sample: str
    """Key of `demos.models.MODELS` that the tokenizer is from."""
    prepared: bool = False
    """Its weights and bundles are prepared and travel; the others are made where they run."""


MODELS: dict[str, Model] = {
    "minilm": Model(
        family="bert",
        task=CLASSIFICATION,
        config={},
        tiny={**TINY, "max_position_embeddings": 512},
        sample="minilm",
        prepared=True,
    ),
    "roberta-large": Model(
        family="roberta",
        task=CLASSIFICATION,
        config={
            "vocab_size": 50265,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
        },
        tiny={**TINY, "max_position_embeddings": 514, "type_vocab_size": 1},
        sample="minilm",
    ),
    "smollm2": Model(
        family="llama",
        task=GENERATION,
        config={},
        tiny={
            **TINY,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 2048,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        sample="smollm2",
    ),
    "gpt2-medium": Model(
        family="gpt2",
        task=GENERATION,
        config={"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_positions": 1024},
        tiny={"vocab_size": TINY_VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024},
        sample="smollm2",
    ),
}
"""Base models by name."""

LORA = {"kind": "lora", "r": 8}
HOULSBY = {"kind": "houlsby", "r": 48}


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """A bundle in fp16 with one adapter of random weights."""

    model: str
    shape: str
    """merged or bank."""
    adapter: dict[str, Any] = field(default_factory=lambda: dict(LORA))
    """Fields of the recipe."""


BUNDLES: dict[str, BundlePlan] = {
    **{
        f"minilm-{adapter['kind']}-{shape}": BundlePlan(model="minilm", shape=shape, adapter=adapter)
        for adapter in (LORA, HOULSBY)
        for shape in ("merged", "bank")
    },
    "roberta-large-merged": BundlePlan(model="roberta-large", shape="merged"),
    **{
        f"{model}-{shape}": BundlePlan(model=model, shape=shape)
        for model in ("smollm2", "gpt2-medium")
        for shape in ("merged", "bank")
    },
}
"""Bundles by name."""


def bundles_of(*, prepared: bool) -> list[str]:
    """Return the bundles that travel, or those that are made where they run."""
    return [name for name, plan in BUNDLES.items() if MODELS[plan.model].prepared is prepared]


def missing_bundles(setting: Setting) -> list[str]:
    """Return the bundles that are still to be made where they run."""
    return [name for name in bundles_of(prepared=False) if not setting.bundle(name).is_dir()]
