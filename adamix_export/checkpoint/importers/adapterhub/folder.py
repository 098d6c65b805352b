"""A folder of the `adapters` library: configurations whose every field is known, and finite tensors of safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from adamix_export.checkpoint.importers.adapterhub.fields import (
    COUNT,
    FLAG,
    REFUSED_FIELDS,
    Value,
    is_activation,
    is_numbering,
    read_method,
    require_values,
)
from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import CONFIG
from adamix_train.errors import CheckpointError, one_line

WEIGHTS, PICKLE = "adapter.safetensors", "pytorch_adapter.bin"
HEAD_CONFIG, HEAD_WEIGHTS, HEAD_PICKLE = "head_config.json", "model_head.safetensors", "pytorch_model_head.bin"
FUSION, INTERFACE = "adapter_fusion_config.json", "adapter_interface.json"
OLD_NAMES = ("attention_text_task_", "attention_text_lang_", "layer_text_task_", "layer_text_lang_")
"""Parts of names by old versions, which have no successor."""
OUTER: dict[str, dict[str, Any]] = {
    CONFIG: {"name": str, "model_type": str, "hidden_size": int, "config": dict},
    HEAD_CONFIG: {"model_class": str, "config": dict | None},
}
"""File → types of the fields around its configuration."""
HEAD_VALUES: dict[str, Value] = {
    "head_type": Value("a name", lambda value: isinstance(value, str)),
    "layers": COUNT,
    "num_labels": COUNT,
    "activation_function": Value("an activation", lambda value: value is None or is_activation(value)),
    "use_pooler": FLAG,
    "bias": FLAG,
    "label2id": Value("the numbers of the logits by label", is_numbering),
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
    methods = config["config"].get("configs") if config["config"].get("architecture") == "union" else [config["config"]]
    if not isinstance(methods, list) or not methods:
        raise CheckpointError(f"{path / CONFIG} has a union without configurations: save the adapter again")
    read = tuple(read_method(path, method, config) for method in methods)
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
        for field, types in OUTER[file.name].items():
            if not isinstance(content[field], types):
                raise TypeError(f"{field} is {content[field]!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is missing or damaged ({one_line(error)}): save the adapter again with "
            "save_adapter(…, use_safetensors=True)"
        ) from error
    return content


def _new_name(name: str) -> str:
    for old in OLD_NAMES:
        name = name.replace(old, "")
    return name.replace("invertible_lang_adapters", "invertible_adapters")


def _head(path: Path) -> Head | None:
    if not (path / HEAD_CONFIG).is_file():
        return None
    content = read_config(path / HEAD_CONFIG)
    config = content["config"]
    facts = content if config is None else config
    require_values(facts, HEAD_VALUES, path / HEAD_CONFIG)
    if config is not None and "head_type" not in config:
        raise CheckpointError(f"{path / HEAD_CONFIG} has no head_type: save the adapter again")
    label2id = facts.get("label2id") or {}
    return Head(
        config=config,
        model_class=content["model_class"],
        labels=tuple(str(label) for label, _ in sorted(label2id.items(), key=lambda pair: int(pair[1]))),
        outputs=facts.get("num_labels"),
        tensors={name: tensor.float() for name, tensor in read_tensors(path, HEAD_WEIGHTS, HEAD_PICKLE).items()},
    )
