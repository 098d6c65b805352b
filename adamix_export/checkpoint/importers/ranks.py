"""The ranks that a configuration declares against those of the stored tensors, before memory is taken for them."""

from collections.abc import Mapping
from pathlib import Path

import peft
from peft.utils.other import get_pattern_key
from torch import Tensor

from adamix_export.checkpoint.collapse import PEFT_PREFIX
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.errors import CheckpointError

RANKS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "LORA": ("r", (".lora_A.weight", ".lora_embedding_A"), 0),
    "ADALORA": ("init_r", (".lora_A",), 0),
    "LOHA": ("r", (".hada_w1_a",), 1),
    "VERA": ("r", (".vera_lambda_d",), 0),
    "HRA": ("r", (".hra_u",), 1),
    "VBLORA": ("r", (".vblora_logits_A",), 0),
    "RANDLORA": ("r", (".randlora_lambda",), 0),
    "MISS": ("r", (".miss_block",), 0),
    "DELORA": ("r", (".delora_A",), 0),
    "GRALORA": ("r", (".gralora_A",), 2),
}
"""PEFT's method → field of its rank, ends of the names of tensors that have it, and their dimension."""
PRUNED = "ADALORA"
"""Method whose pattern says which ranks of a layer are left, out of those that it began with."""


def require_ranks(config: peft.PeftConfig, stored: Mapping[str, Tensor], folder: Path) -> None:
    """Raise a `CheckpointError` if the configuration declares a rank above that of a stored tensor, or none at all.

    A smaller one costs no memory, and the tensors' sizes tell it.
    """
    method = str(config.peft_type.value)
    pattern = getattr(config, "rank_pattern", None) or {}
    if method not in RANKS:
        return
    field, ends, dimension = RANKS[method]
    if method == PRUNED and pattern:
        sizes = {layer: len(left) for layer, left in pattern.items() if isinstance(left, list)}
        declared = dict.fromkeys(sizes, getattr(config, field))
    else:
        tensors = {name: tensor for name, tensor in stored.items() if name.endswith(ends) and tensor.ndim > dimension}
        sizes = {name: tensor.shape[dimension] for name, tensor in tensors.items()}
        declared = {name: _declared(name, ends, pattern, getattr(config, field)) for name in tensors}
    for name, rank in declared.items():
        if type(rank) is not int or rank < 1:
            raise CheckpointError(f"{folder / CONFIG} declares the rank {rank!r} ({field}): it is a number from 1")
        if rank > sizes[name]:
            raise CheckpointError(
                f"{folder / CONFIG} declares the rank {rank} ({field}, rank_pattern), and {name} has {sizes[name]}: "
                "the configuration is that of another adapter, put its own back"
            )


def _declared(name: str, ends: tuple[str, ...], pattern: Mapping[str, object], rank: object) -> object:
    """Return the rank of a tensor's layer: that of the first pattern that fits its name, or else `rank`."""
    layer = name.removeprefix(PEFT_PREFIX)
    for end in ends:
        layer = layer.removesuffix(end)
    return pattern.get(get_pattern_key(list(pattern), layer), rank)
