"""Collapse a mixture into one adapter: per projection the mean over its modules (AdaMix, section 3.3)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adamix_export.errors import ExportError
from adamix_train.errors import one_line
from adamix_train.mixture.adapters import Adapter, make_adapter
from adamix_train.mixture.projection import Projection, collapse, linear_projection, mixture_projection
from adamix_train.mixture.shape import AdapterShape
from adamix_train.peft_method import AdaMixConfig
from adamix_train.peft_method.target_modules import WHOLE, Blocks, fused_blocks

PEFT_PREFIX = "base_model.model."
SITE = ".adamix_modules."
SCORES = ".scores"
HEAD = "head"

AdapterTensors = dict[str, Tensor]
"""Tensors of an adapter, or of a checkpoint, by name."""


def collapse_checkpoint(tensors: Mapping[str, Tensor], config: AdaMixConfig) -> AdapterTensors:
    """Return the single adapter of a checkpoint.

    Keys are `{module}.{kind}.{projection}.{weight|bias}` and `{module}.head.{weight|bias}`. LoRA's scaling is folded
    into the weights.

    Raises:
        ExportError: a mixture's shapes are not those of `config`, or a weight is not finite.

    """
    sites, heads = split_sites(tensors)
    adapter: AdapterTensors = {}
    for module, weights in sites.items():
        mixture = site_adapter(
            config.kind,
            weights,
            mixture_projection(config.num_modules, share=config.share),
            lora_alpha=config.lora_alpha,
            r=config.r,
            fused=fused_blocks(config.fused, module),
            where=module,
        )
        collapse(mixture)
        mixture.fold()
        adapter |= {f"{module}.{config.kind}.{name}": weight for name, weight in mixture.state_dict().items()}
    for name, weight in heads.items():
        module, _, parameter = name.rpartition(".")
        adapter[f"{module}.{HEAD}.{parameter}"] = weight
    for name, weight in adapter.items():
        if not weight.isfinite().all():
            raise ExportError(f"{name} holds values that are not finite: train again, with a lower learning rate")
    return adapter


def with_module_weights(tensors: Mapping[str, Tensor], weights: Sequence[float]) -> AdapterTensors:
    """Return a checkpoint's tensors with `weights` as the module weights; they sum to 1, and empty changes nothing."""
    return {
        name: torch.tensor(weights).log() if name.endswith(SCORES) and len(tensor) == len(weights) else tensor
        for name, tensor in tensors.items()
    }


def site_adapter(
    kind: str,
    weights: Mapping[str, Tensor],
    projection: Projection,
    *,
    r: int,
    lora_alpha: float,
    where: str,
    fused: Blocks = WHOLE,
) -> Adapter:
    """Return the adapter of one site with `weights` loaded; their names and shapes must match exactly."""
    try:
        width_in, width_out = weights["down.weight"].shape[-1], weights["up.weight"].shape[-2]
        if fused.adapted:
            width_out = width_out * fused.count // len(fused.adapted)
        shape = AdapterShape(
            in_features=width_in,
            out_features=width_out,
            r=r,
            lora_alpha=lora_alpha,
            blocks=fused.adapted,
            block_count=fused.count,
        )
        with torch.device("meta"):  # compares the sizes before memory is taken for those that are declared
            make_adapter(kind, shape, projection).load_state_dict(dict(weights), assign=True)
        adapter = make_adapter(kind, shape, projection)
        adapter.load_state_dict(dict(weights))
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise ExportError(
            f"the mixture at {where} does not have the shape that the checkpoint declares: {one_line(error)}"
        ) from error
    adapter.requires_grad_(False).eval()
    return adapter


def plain_adapter(kind: str, weights: Mapping[str, Tensor], *, where: str) -> Adapter:
    """Return one site's collapsed adapter; its scaling is 1, as it is folded into the weights."""
    r = weights["down.weight"].shape[-2]
    return site_adapter(kind, weights, linear_projection, r=r, lora_alpha=r, where=where)


def split_sites(tensors: Mapping[str, Tensor]) -> tuple[dict[str, AdapterTensors], AdapterTensors]:
    """Split a checkpoint's tensors into mixtures, by module, and head parameters."""
    sites: defaultdict[str, AdapterTensors] = defaultdict(dict)
    heads: AdapterTensors = {}
    for name, weight in tensors.items():
        module, found, rest = name.removeprefix(PEFT_PREFIX).partition(SITE)
        if found:
            sites[module][rest] = weight
        else:
            heads[module] = weight
    return dict(sites), heads
