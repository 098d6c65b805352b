"""The base model with one collapsed adapter merged into it."""

from collections import defaultdict

import torch
from torch import nn
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import HEAD, AdapterTensors, plain_adapter


def merge(model: PreTrainedModel, adapter: AdapterTensors) -> PreTrainedModel:
    """Merge an adapter and its head into `model` in place; return the model.

    LoRA is folded into the weights; bottleneck adapters (Houlsby, Pfeiffer) are inserted as modules.
    """
    for (module, kind), weights in by_site(adapter).items():
        layer = model.get_submodule(module)
        if kind == HEAD:
            layer.load_state_dict(weights)
        else:
            replace_module(model, module, plain_adapter(kind, weights, where=module).merge(layer))
    return model


def by_site(adapter: AdapterTensors) -> dict[tuple[str, str], AdapterTensors]:
    """Group an adapter's tensors by module and kind; the kind of a head is "head"."""
    sites: defaultdict[tuple[str, str], AdapterTensors] = defaultdict(dict)
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
    """Replace the submodule `name` by `module`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def weights_to(adapter: AdapterTensors, dtype: torch.dtype) -> AdapterTensors:
    """Return an adapter's tensors in one dtype, contiguous and sorted by name."""
    return {name: adapter[name].to(dtype).contiguous() for name in sorted(adapter)}
