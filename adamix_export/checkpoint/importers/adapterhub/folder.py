"""A folder of the `adapters` library: configurations whose every field is known, and finite tensors of safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.errors import CheckpointError, one_line

WEIGHTS, PICKLE = "adapter.safetensors", "pytorch_adapter.bin"
HEAD_CONFIG, HEAD_WEIGHTS, HEAD_PICKLE = "head_config.json", "model_head.safetensors", "pytorch_model_head.bin"
FUSION, INTERFACE = "adapter_fusion_config.json", "adapter_interface.json"
PREFIX = "adapters."
"""Start of the library's versions; those of its predecessor, adapter-transformers, are bare or absent."""
MISSCALED = (1, 1, 0)
"""Version before which the library multiplied a LoRA by 1 instead of alpha / r."""
OLD_NAMES = ("attention_text_task_", "attention_text_lang_", "layer_text_task_", "layer_text_lang_")
"""Parts of names by old versions, which have no successor."""
OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
"""Activation by versions that wrote no version → its name today."""

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


@dataclass(frozen=True, kw_only=True)
class Head:
    """The prediction head that was saved beside an adapter."""

    config: Mapping[str, Any] | None
    """Configuration of a flexible head; None if the tensors are those of a head of transformers."""
    model_class: str
    labels: tuple[str, ...]
    """Names in the order of the logits; empty if there are none."""
    outputs: int | None
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A saved adapter."""

    path: Path
    name: str
    """Name of the adapter in the names of its tensors."""
    base: str
    """Folder or Hub id of the base; "" if the library did not know it."""
    model_type: str
    hidden_size: int
    methods: tuple[Mapping[str, Any], ...]
    """Configuration of each method, with the defaults of fields that it lacks; several of a union."""
    tensors: Mapping[str, Tensor]
    head: Head | None


def read_folder(path: Path) -> Folder:
    """Return what a folder holds.

    Raises:
        ExportError: it holds a method that is not exported; the message names it.
        CheckpointError: a file is missing or damaged, is a pickle, has unknown fields or values that are not finite.
    """
    for file, what in ((FUSION, "an AdapterFusion, which mixes adapters by each input"), (INTERFACE, "an interface")):
        if (path / file).is_file():
            raise ExportError(f"{path} holds {what} of the adapters library ({file}): it cannot be exported")
    config = read_config(path / CONFIG)
    methods = config["config"]["configs"] if config["config"].get("architecture") == "union" else [config["config"]]
    read = tuple(_method(path, method, config) for method in methods)
    tensors = {_new_name(name): tensor.float() for name, tensor in read_tensors(path, WEIGHTS, PICKLE).items()}
    if any("invertible_adapters." in name for name in tensors):
        raise ExportError(f"{path} has {REFUSED_FIELDS['inv_adapter']}: it cannot be exported")
    return Folder(
        path=path,
        name=config["name"],
        base=config.get("model_name") or "",
        model_type=config["model_type"],
        hidden_size=config["hidden_size"],
        methods=read,
        tensors=tensors,
        head=_head(path),
    )


def read_config(file: Path) -> dict[str, Any]:
    """Return the content of a configuration of the library; raise a `CheckpointError` if it is none."""
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        for field in ("name", "model_type", "hidden_size", "config", "model_class"):
            content[field]
        if file.name == CONFIG and not isinstance(content["config"], dict):
            raise TypeError("its config is no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is missing or damaged ({one_line(error)}): save the adapter again with "
            "save_adapter(…, use_safetensors=True)"
        ) from error
    return content


def _method(path: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a method, all of them; raise an error for a method or a field that is not known."""
    architecture = stored.get("architecture")
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
    if not version and method.get("non_linearity") in OLD_ACTIVATIONS:
        method["non_linearity"] = OLD_ACTIVATIONS[method["non_linearity"]]
    if architecture == "lora" and version.startswith(PREFIX) and _numbers(version) < MISSCALED:
        method["alpha"] = method["r"]
    return method


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix(PREFIX).split(".")[:3] if part.isdigit())


def _new_name(name: str) -> str:
    for old in OLD_NAMES:
        name = name.replace(old, "")
    return name.replace("invertible_lang_adapters", "invertible_adapters")


def _head(path: Path) -> Head | None:
    if not (path / HEAD_CONFIG).is_file():
        return None
    content = read_config(path / HEAD_CONFIG)
    config = content["config"]
    label2id = (content if config is None else config).get("label2id") or {}
    return Head(
        config=config,
        model_class=content["model_class"],
        labels=tuple(str(label) for label, _ in sorted(label2id.items(), key=lambda pair: int(pair[1]))),
        outputs=(content if config is None else config).get("num_labels"),
        tensors={name: tensor.float() for name, tensor in read_tensors(path, HEAD_WEIGHTS, HEAD_PICKLE).items()},
    )
