"""Collapse a mixture into one adapter: per projection the mean over its modules (AdaMix, section 3.3)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adamix_export.errors import ExportError
from adamix_train.mixture.adapters import Adapter, make_adapter
from adamix_train.mixture.projection import Projection, collapse, linear_projection, mixture_projection
from adamix_train.mixture.shape import AdapterShape
from adamix_train.peft_method import AdaMixConfig
from adamix_train.peft_method.target_modules import WHOLE, Blocks, fused_blocks

PEFT_PREFIX = "base_model.model."
SITE = ".adamix_modules."
SCORES = ".scores"
HEAD = "head"

Weights = dict[str, Tensor]


def collapse_checkpoint(tensors: Mapping[str, Tensor], config: AdaMixConfig) -> Weights:
    """Return a checkpoint's adapter: `{module}.{kind}.{projection}.{weight|bias}` and `{module}.head.{weight|bias}`.

    Constant factors (LoRA's scaling) are folded into the weights. A mixture whose shapes are not those of `config` is
    an error, as is a weight that is not finite.
    """
    sites, heads = split_sites(tensors)
    adapter: Weights = {}
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


def with_shares(tensors: Mapping[str, Tensor], shares: Sequence[float]) -> Weights:
    """Return a checkpoint's tensors with `shares`, which sum to 1, as the weight of each module in every mean."""
    return {
        name: torch.tensor(shares).log() if name.endswith(SCORES) and len(weight) == len(shares) else weight
        for name, weight in tensors.items()
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
    """Return the adapter of one site with `weights` in it; they must fit exactly."""
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
        adapter = make_adapter(kind, shape, projection)
        adapter.load_state_dict(dict(weights))
    except (KeyError, RuntimeError) as error:
        raise ExportError(
            f"the mixture at {where} does not have the shape that the checkpoint declares: {error}"
        ) from error
    adapter.requires_grad_(False).eval()
    return adapter


def plain_adapter(kind: str, weights: Mapping[str, Tensor], *, where: str) -> Adapter:
    """Return one site's collapsed adapter, whose weights say it all: its scaling is 1."""
    r = weights["down.weight"].shape[-2]
    return site_adapter(kind, weights, linear_projection, r=r, lora_alpha=r, where=where)


def split_sites(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Weights], Weights]:
    """Split a checkpoint's tensors into the mixtures by module and the parameters of the head."""
    sites: defaultdict[str, Weights] = defaultdict(dict)
    heads: Weights = {}
    for name, weight in tensors.items():
        module, found, rest = name.removeprefix(PEFT_PREFIX).partition(SITE)
        if found:
            sites[module][rest] = weight
        else:
            heads[module] = weight
    return dict(sites), heads
