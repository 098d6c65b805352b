"""Turn the configurations and tensors of a folder into grafts; every tensor has its place, or it is an error."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.checkpoint.importers.adapterhub.families import FAMILIES, Family, Place
from adamix_export.checkpoint.importers.adapterhub.fields import activation
from adamix_export.checkpoint.importers.adapterhub.folder import Folder
from adamix_export.checkpoint.importers.grafted.modules import (
    Behind,
    BehindLayer,
    BehindNorm,
    Bottleneck,
    BottleneckGraft,
    Graft,
    LinearChange,
    ParallelGraft,
    WithinNorm,
    in_blocks,
    linear,
    norm,
)
from adamix_export.checkpoint.importers.grafted.tensors import Tensors
from adamix_export.errors import ExportError
from adamix_train.errors import CheckpointError
from adamix_train.mixture.layers import TRANSPOSED, features

FORMS: dict[tuple[bool, bool | str, bool], str] = {
    (False, True, True): "dense",
    (False, False, True): "dense",
    (True, True, True): "within",
    (True, False, False): "norm",
}
"""`original_ln_before`, `residual_before_ln`, `original_ln_after` of a bottleneck → its form. Behind the feed-forward
of a family whose norms come before the projections, `within` is `layer`.
"""
AROUND: dict[str, type[Behind]] = {"dense": Behind, "within": WithinNorm, "norm": BehindNorm, "layer": BehindLayer}
"""Form of a bottleneck → module that puts it around the base's."""
NORMS = ("within", "norm")
"""Forms at a layer norm behind the residual."""


def read_grafts(model: PreTrainedModel, folder: Folder) -> list[Graft]:
    """Return the grafts of a folder for a base.

    Raises:
        ExportError: a part of the adapter is not exported; the message names it.
        CheckpointError: the tensors are not those of the configuration on this base.
    """
    family = FAMILIES[folder.model_type]
    tensors = Tensors(folder.tensors, folder.path, prefix=model.base_model_prefix)
    grafts: list[Graft] = []
    for method in folder.methods:
        for index in range(model.config.num_hidden_layers):
            if index not in (method["leave_out"] or ()):
                layer = family.layer.format(index)
                grafts.extend(METHODS[method["architecture"]](model, folder, family, layer, method, tensors))
    tensors.require_all_taken()
    places = [graft.module for graft in grafts]
    for place in places:
        if places.count(place) > 1:
            raise ExportError(f"{folder.path} adapts {place} twice, which is not exported")
    return grafts


def _bottlenecks(
    model: PreTrainedModel, folder: Folder, family: Family, layer: str, method: Mapping[str, Any], tensors: Tensors
) -> Iterator[Graft]:
    """Yield the bottlenecks of a layer."""
    places = [(family.attention, method["mh_adapter"]), (family.feed_forward, method["output_adapter"])]
    for place in [place for place, present in places if present]:
        width = folder.hidden_size
        prefix = f"{layer}.{place.adapters}.adapters.{folder.name}"
        bottleneck = _bottleneck(
            prefix, width, _reduced(width, layer, method["reduction_factor"], tensors), method, tensors
        )
        prefix = f"{model.base_model_prefix}.{layer}."
        if method["is_parallel"]:
            yield _parallel(prefix, place, family, bottleneck, method, folder)
        else:
            yield _sequential(prefix, place, family, bottleneck, method, folder)


def _sequential(
    prefix: str, place: Place, family: Family, bottleneck: Bottleneck, method: Mapping[str, Any], folder: Folder
) -> BottleneckGraft:
    flags = tuple(method[flag] for flag in ("original_ln_before", "residual_before_ln", "original_ln_after"))
    form = FORMS.get(flags)
    if form == "within" and place is family.feed_forward and place.norm is None:
        form = "layer"
    if form is None or (form in NORMS and place.norm is None) or (form != "dense" and bottleneck.after_residual):
        names = ", ".join(
            f"{flag}={method[flag]}"
            for flag in ("original_ln_before", "original_ln_after", "residual_before_ln", "adapter_residual_before_ln")
        )
        raise ExportError(f"{folder.path} is a bottleneck with {names} on a {folder.model_type}, which is not exported")
    return BottleneckGraft(
        module=(prefix + {"dense": place.dense, "layer": ""}.get(form, str(place.norm))).rstrip("."),
        around=AROUND[form],
        bottleneck=bottleneck,
        activation=method["non_linearity"].lower(),
    )


def _parallel(
    prefix: str, place: Place, family: Family, bottleneck: Bottleneck, method: Mapping[str, Any], folder: Folder
) -> ParallelGraft:
    norms = method["ln_before"] or method["ln_after"] or not method["original_ln_after"]
    if place is not family.feed_forward or place.norm is None or norms:
        raise ExportError(
            f"{folder.path} is a parallel bottleneck (is_parallel) of attention, of a {folder.model_type} or with a "
            "layer norm of its own, which is not exported; one beside BERT's feed-forward is"
        )
    return ParallelGraft(
        module=prefix + family.first,
        activation=prefix + family.activation,
        last=prefix + place.dense,
        bottleneck=bottleneck,
    )


def _bottleneck(prefix: str, width: int, reduced: int, method: Mapping[str, Any], tensors: Tensors) -> Bottleneck:
    """Return the bottleneck of a place, with its scaling folded into `up`."""
    before = _norm(f"{prefix}.adapter_norm_before", width, tensors) if method["ln_before"] else nn.Identity()
    if method["ln_before"]:  # stored twice: it is also the first part of adapter_down
        _norm(f"{prefix}.adapter_down.0", width, tensors)
    down = f"{prefix}.adapter_down.{1 if method['ln_before'] else 0}"
    up = f"{prefix}.adapter_up"
    after = _norm(f"{prefix}.adapter_norm_after", width, tensors) if method["ln_after"] else nn.Identity()
    scaling = _scaling(f"{prefix}.scaling", width, method["scaling"], tensors)
    weight, bias = tensors.take(f"{up}.weight", width, reduced), tensors.take(f"{up}.bias", width)
    return Bottleneck(
        linear(tensors.take(f"{down}.weight", reduced, width), tensors.take(f"{down}.bias", reduced)),
        linear(weight * scaling.unsqueeze(-1), bias * scaling),
        activation(method["non_linearity"]),
        before,
        after,
        after_residual=bool(method["ln_after"] and method["adapter_residual_before_ln"] and not method["is_parallel"]),
    )


def _norm(name: str, width: int, tensors: Tensors) -> nn.LayerNorm:
    return norm(tensors.take(f"{name}.weight", width), tensors.take(f"{name}.bias", width))


def _scaling(name: str, width: int, scaling: float | str, tensors: Tensors) -> Tensor:
    """Return the factor of a bottleneck's output, (width,) or (1,)."""
    if isinstance(scaling, str):
        return tensors.take(name, 1 if scaling == "learned" else width)
    return torch.tensor([float(scaling)])


def _reduced(width: int, layer: str, factor: float | Mapping[str, float], tensors: Tensors) -> int:
    """Return the width of a layer's bottleneck, at least 1."""
    if isinstance(factor, Mapping):
        index = layer.rpartition(".")[2]
        if index not in factor and "default" not in factor:
            raise CheckpointError(f"{tensors.path} names no reduction_factor of layer {index}, and no default")
        factor = factor.get(index, factor.get("default", 1))
    return max(1, int(width // factor))


def _low_rank(
    model: PreTrainedModel, folder: Folder, family: Family, layer: str, method: Mapping[str, Any], tensors: Tensors
) -> Iterator[Graft]:
    """Yield the changes of a layer's projections by LoRA, DoRA or IA3."""
    letters = [letter for letter in family.projections if letter in method["attn_matrices"]]
    names = [(family.projections[letter], ()) for letter in letters]
    if family.fused and letters:
        order = list(family.projections)
        names = [(family.projections[letters[0]], tuple(order.index(letter) for letter in letters))]  # type: ignore[list-item]
    for present, found in (
        (method["selfattn_lora"], names),
        (method["intermediate_lora"], [(family.intermediate, ())]),
        (method["output_lora"], [(family.output, ())]),
    ):
        for name, blocks in found if present else ():
            module = f"{model.base_model_prefix}.{layer}.{name}"
            yield _change(module, model.get_submodule(module), f"{layer}.{name}", blocks, method, folder, tensors)


def _change(
    module: str,
    base: nn.Module,
    name: str,
    blocks: tuple[int, ...],
    method: Mapping[str, Any],
    folder: Folder,
    tensors: Tensors,
) -> LinearChange:
    """Return the change of one projection; `blocks` are the adapted blocks of a fused one."""
    (width_in, width_out), prefix, r = features(base), f"{name}.loras.{folder.name}", method["r"]
    block, count = (width_out // BLOCKS, len(blocks)) if blocks else (width_out, 1)
    if method["composition_mode"] == "scale":
        alpha = float(method["alpha"])
        scale = torch.full((width_out,), alpha).view(-1, block)
        scale[list(blocks) if blocks else [0]] *= tensors.take(f"{prefix}.lora_B", count * block, 1).view(-1, block)
        return LinearChange(module=module, down=None, up=None, scale=scale.flatten())
    down = tensors.take(f"{prefix}.lora_A", count * r, width_in)
    stored = tensors.take(f"{prefix}.lora_B", count * block, r)
    unscaled = in_blocks(stored, blocks, width_out) if blocks else stored
    up = unscaled * (method["alpha"] / r)
    if not method["use_dora"]:
        return LinearChange(module=module, down=down, up=up, scale=None)
    if TRANSPOSED[type(base)]:
        raise ExportError(f"{folder.path} is DoRA on a {folder.model_type}, which the adapters library does not have")
    magnitude = tensors.take(f"{prefix}.m.weight", width_out, 1).flatten()
    lengths = torch.linalg.norm(base.weight + unscaled @ down, dim=1)  # type: ignore[operator]  # without alpha
    return LinearChange(module=module, down=down, up=up, scale=(magnitude / lengths).detach())


BLOCKS = 3
"""Blocks of a fused projection: query, key and value."""
METHODS: dict[str, Callable[..., Iterator[Graft]]] = {"bottleneck": _bottlenecks, "lora": _low_rank}
"""Architecture of a configuration → function that yields the grafts of a layer."""
