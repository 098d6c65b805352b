"""The base with one collapsed adapter inside it."""

from collections import defaultdict

import torch
from torch import nn
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import HEAD, Weights, plain_adapter


def merge(model: PreTrainedModel, adapter: Weights) -> PreTrainedModel:
    """Fold (LoRA) or graft (Houlsby) `adapter` into `model` in place, its head included, and return the model."""
    for (module, kind), weights in by_site(adapter).items():
        layer = model.get_submodule(module)
        if kind == HEAD:
            layer.load_state_dict(weights)
        else:
            replace_module(model, module, plain_adapter(kind, weights, where=module).merge(layer))
    return model


def by_site(adapter: Weights) -> dict[tuple[str, str], Weights]:
    """Group an adapter's tensors by module and kind (or "head")."""
    sites: defaultdict[tuple[str, str], Weights] = defaultdict(dict)
    for name, weight in adapter.items():
        module, kind, rest = split_name(name)
        sites[module, kind][rest] = weight
    return dict(sites)


def split_name(name: str) -> tuple[str, str, str]:
    """Split `{module}.{kind}.{projection}.{parameter}` or `{module}.head.{parameter}` into module, kind and rest."""
    module, found, parameter = name.rpartition(f".{HEAD}.")
    if found:
        return module, HEAD, parameter
    module, kind, projection, parameter = name.rsplit(".", 3)
    return module, kind, f"{projection}.{parameter}"


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def weights_to(adapter: Weights, dtype: torch.dtype) -> Weights:
    """Return an adapter's tensors, contiguous, in one dtype and in the order of their names."""
    return {name: adapter[name].to(dtype).contiguous() for name in sorted(adapter)}
