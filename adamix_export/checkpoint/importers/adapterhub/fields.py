"""Fields of the library's configurations: their defaults, the values that they may have, and what is refused."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers.activations import ACT2FN

from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.errors import CheckpointError


@dataclass(frozen=True)
class Value:
    """A value that a field may have."""

    description: str
    is_valid: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_reduction(value: Any) -> bool:
    return all(map(_is_positive, value.values())) if isinstance(value, dict) else _is_positive(value)


def _is_numbers(value: Any) -> bool:
    return value is None or (isinstance(value, list | tuple) and all(type(number) is int for number in value))


def _is_letters(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(letter in LETTERS for letter in value)


PREFIX = "adapters."
"""Start of the library's versions; those of its predecessor, adapter-transformers, are bare or absent."""
MISSCALED = (1, 1, 0)
"""Version before which the library multiplied a LoRA by 1 instead of alpha / r."""
OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
"""Activation by versions that wrote no version → its name today."""


def is_activation(value: Any) -> bool:
    """Return True for the name of an activation; the library ignores its case."""
    return isinstance(value, str) and value.lower() in (*ACT2FN, LEAKY_RELU)


def is_numbering(value: Any) -> bool:
    """Return True for numbers by label that are 0, 1 and so on; None is a numbering without names."""
    if not isinstance(value, dict | None):
        return False
    numbers = [str(number) for number in (value or {}).values()]
    return sorted(numbers) == sorted(map(str, range(len(numbers))))


LEAKY_RELU = "leakyrelu"
"""The library's own name of an activation."""
COUNT = Value("a positive integer", lambda value: type(value) is int and value > 0)
FLAG = Value("true or false", lambda value: isinstance(value, bool))
LETTERS = ("q", "k", "v")
"""Projections of attention in `attn_matrices`."""
TRAINED_SCALINGS = ("learned", "channel")
UNUSED = ("init_weights", "init_weights_seed", "dropout", "stochastic_depth", "dtype", "inv_adapter_reduction_factor")
"""Fields of training, and of parts that are refused."""
BOTTLENECK: dict[str, Any] = {
    "mh_adapter": False,
    "output_adapter": False,
    "cross_adapter": False,
    "reduction_factor": 16,
    "non_linearity": "relu",
    "original_ln_before": False,
    "original_ln_after": True,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "leave_out": (),
    "use_gating": False,
    "inv_adapter": None,
    "phm_layer": False,
}
"""Fields of a bottleneck's configuration and their defaults; those of its PHM layers begin with `PHM`."""
PHM = ("phm_", "factorized_phm_", "shared_phm_", "shared_W_phm", "learn_phm", "hypercomplex_")
LORA: dict[str, Any] = {
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "leave_out": (),
    "r": 8,
    "alpha": 8,
    "attn_matrices": ("q", "v"),
    "composition_mode": "add",
    "use_gating": False,
    "use_dora": False,
    "vera_d": None,
    "vera_b": None,
}
VALUES: dict[str, Value] = {
    **{field: FLAG for table in (BOTTLENECK, LORA) for field, default in table.items() if isinstance(default, bool)},
    "reduction_factor": Value("a positive number, or one for each layer", _is_reduction),
    "non_linearity": Value("an activation of transformers", is_activation),
    "residual_before_ln": Value('true, false or "post_add"', lambda value: value in (True, False, "post_add")),
    "scaling": Value('a number, "learned" or "channel"', lambda value: _is_number(value) or value in TRAINED_SCALINGS),
    "leave_out": Value("a list of numbers of layers", _is_numbers),
    "r": COUNT,
    "alpha": Value("a number", _is_number),
    "attn_matrices": Value("a list of q, k and v", _is_letters),
    "composition_mode": Value('"add" or "scale"', lambda value: value in ("add", "scale")),
}
FIELDS: dict[str | None, dict[str, Any]] = {None: BOTTLENECK, "bottleneck": BOTTLENECK, "lora": LORA}
"""`architecture` of a configuration → its fields and their defaults."""
REFUSED_METHODS = {
    "prefix_tuning": "prefix tuning, which adds tokens inside attention",
    "prompt_tuning": "prompt tuning, which adds tokens to every input",
    "reft": "ReFT, which changes hidden states at chosen positions",
    "mtl_lora": "MTL-LoRA, which depends on the task of each input",
}
REFUSED_FIELDS = {
    "phm_layer": "a compacter, whose matrices are sums of Kronecker products",
    "inv_adapter": "an invertible adapter, which changes the embeddings of every input",
    "use_gating": "gated (use_gating) by a mean over all tokens, padding included: its logits depend on the batch",
    "vera_d": "VeRA, whose matrices are shared by all layers",
    "vera_b": "VeRA, whose matrices are shared by all layers",
}


def read_method(path: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a method, all of them; raise an error for a method or a field that is not known."""
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path / CONFIG} has a method that is no object: save the adapter again")
    architecture = stored.get("architecture")
    if not isinstance(architecture, str | None):
        raise CheckpointError(f"architecture in {path / CONFIG} is no name: save the adapter again")
    if architecture in REFUSED_METHODS:
        raise ExportError(f"{path} is {REFUSED_METHODS[architecture]}: it cannot be exported")
    if architecture not in FIELDS:
        raise ExportError(f"{path} is a method {architecture!r} of the adapters library, which is not known")
    method = {**FIELDS[architecture], **stored, "architecture": architecture or "bottleneck"}
    unused = config.get("type") == "text_task"  # old versions wrote an invertible adapter into every configuration
    if method.pop("invertible_adapter", None) and not unused:
        method["inv_adapter"] = True
    if unused:
        method["inv_adapter"] = None
    for field, what in REFUSED_FIELDS.items():
        if method.get(field) not in (None, False):
            raise ExportError(f"{path} is {what}: it cannot be exported")
    known = {*FIELDS[architecture], *UNUSED, "architecture"}
    if unknown := sorted(f for f, value in method.items() if value and f not in known and not f.startswith(PHM)):
        raise CheckpointError(
            f"{path / CONFIG} has {unknown[0]}, which this version does not know: remove it if it changes no output"
        )
    version = str(config.get("version", ""))
    if not version and isinstance(name := method.get("non_linearity"), str):
        method["non_linearity"] = OLD_ACTIVATIONS.get(name, name)
    require_values(method, VALUES, path / CONFIG)
    if architecture == "lora" and version.startswith(PREFIX) and _numbers(version) < MISSCALED:
        method["alpha"] = method["r"]
    return method


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix(PREFIX).split(".")[:3] if part.isdigit())


def require_values(values: Mapping[str, Any], table: Mapping[str, Value], file: Path) -> None:
    """Raise a `CheckpointError` if a field that is there has a value that it may not have."""
    for field in [field for field in values if field in table]:
        if not table[field].is_valid(values[field]):
            raise CheckpointError(
                f"{field} in {file} is {values[field]!r}, and should be {table[field].description}: save the adapter "
                "again"
            )


def activation(name: str) -> nn.Module:
    """Return the module of an activation."""
    module: nn.Module = nn.LeakyReLU() if name.lower() == LEAKY_RELU else ACT2FN[name.lower()]
    return module
