"""Collapsed bottlenecks and LoRA as configurations and tensors of the `adapters` library.

The library has a place in all layers or in none, but for layers that are left out: a place that an adapter lacks is
zero, and widths are padded with zeros. Both are exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PretrainedConfig

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.importers.adapterhub.families import Family
from adamix_export.checkpoint.importers.adapterhub.fields import BOTTLENECK, LORA
from adamix_export.converters.lora_sites import padded
from adamix_export.errors import ExportError

Sites = Mapping[str, AdapterTensors]
"""Module → its collapsed tensors."""
Written = tuple[dict[str, Any], dict[str, Tensor]]
"""Configuration and tensors of a method."""
BLOCKS = 3
"""Blocks of a fused projection: query, key and value."""


@dataclass(frozen=True)
class Layout:
    """The layers of a base."""

    family: Family
    config: PretrainedConfig
    prefix: str
    """Start of the body's names, such as `bert.`."""

    def layers(self) -> list[str]:
        """Return the names of the layers."""
        return [self.prefix + self.family.layer.format(index) for index in range(self.config.num_hidden_layers)]


def _bottlenecks(sites: Sites, layout: Layout, name: str, *, activation: str) -> Written:
    """Return bottlenecks behind projections, or within layer norms."""
    family = layout.family
    places = {"mh_adapter": family.attention, "output_adapter": family.feed_forward}
    within = any(module.endswith(f".{place.norm}") for module in sites for place in places.values() if place.norm)
    ends = {flag: place.norm if within else place.dense for flag, place in places.items()}
    used = [flag for flag, end in ends.items() if any(f"{layer}.{end}" in sites for layer in layout.layers())]
    known = {f"{layer}.{ends[flag]}" for layer in layout.layers() for flag in used}
    _require_known(sites, known)
    width, factors, left_out = layout.config.hidden_size, dict[str, float](), list[int]()
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(layout.layers()):
        present = [sites[module] for module in (f"{layer}.{ends[flag]}" for flag in used) if module in sites]
        if not present:
            left_out.append(index)
            continue
        r = max(weights["down.weight"].shape[0] for weights in present)
        factors[str(index)] = width // r if width % r == 0 else width / (r + 0.5)  # its floor is r
        for flag in used:
            adapter = f"{layer}.{places[flag].adapters}.adapters.{name}"
            weights = sites.get(f"{layer}.{ends[flag]}") or _no_bottleneck(width)
            down, up = padded(weights["down.weight"], weights["up.weight"], r)
            tensors |= {
                f"{adapter}.adapter_down.0.weight": down,
                f"{adapter}.adapter_down.0.bias": pad(weights["down.bias"], (0, r - len(weights["down.bias"]))),
                f"{adapter}.adapter_up.weight": up,
                f"{adapter}.adapter_up.bias": weights["up.bias"],
            }
    method = {
        **BOTTLENECK,
        **{flag: flag in used for flag in places},
        "non_linearity": activation,
        "original_ln_before": within,
        "leave_out": left_out,
        "reduction_factor": factors if len(set(factors.values())) > 1 else next(iter(factors.values())),
    }
    return method, tensors


def _no_bottleneck(width: int) -> AdapterTensors:
    return {
        "down.weight": torch.zeros(1, width),
        "down.bias": torch.zeros(1),
        "up.weight": torch.zeros(width, 1),
        "up.bias": torch.zeros(width),
    }


def _lora(sites: Sites, layout: Layout, name: str) -> Written:
    """Return LoRA whose alpha equals its rank, as the scaling is folded into the weights."""
    family = layout.family
    ends = {**family.projections, "intermediate_lora": family.intermediate, "output_lora": family.output}
    shapes = {
        end: (weights["down.weight"].shape[1], weights["up.weight"].shape[0])
        for end in ends.values()
        for layer in layout.layers()
        if (weights := sites.get(f"{layer}.{end}"))
    }
    _require_known(sites, {f"{layer}.{end}" for layer in layout.layers() for end in shapes})
    r = max(weights["down.weight"].shape[0] for weights in sites.values())
    letters, blocks = _letters(sites, layout, shapes)
    left_out: list[int] = []
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(layout.layers()):
        if not any(f"{layer}.{end}" in sites for end in shapes):
            left_out.append(index)
            continue
        for end, (width_in, width_out) in shapes.items():
            weights = sites.get(f"{layer}.{end}") or {
                "down.weight": torch.zeros(r, width_in),
                "up.weight": torch.zeros(width_out, r),
            }
            down, up = padded(weights["down.weight"], weights["up.weight"], r)
            if family.fused and end in family.projections.values():
                down, up = torch.cat([down] * len(blocks)), torch.cat([up.chunk(BLOCKS)[block] for block in blocks])
            tensors |= {f"{layer}.{end}.loras.{name}.lora_A": down, f"{layer}.{end}.loras.{name}.lora_B": up}
    method = {
        **LORA,
        "architecture": "lora",
        "selfattn_lora": bool(letters),
        **{field: ends[field] in shapes for field in ("intermediate_lora", "output_lora")},
        "attn_matrices": letters,
        "leave_out": left_out,
        "r": r,
        "alpha": r,
    }
    return method, tensors


def _letters(sites: Sites, layout: Layout, shapes: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Return the letters of the adapted projections of attention, and of a fused one the numbers of their blocks."""
    projections = layout.family.projections
    adapted = [letter for letter, end in projections.items() if end in shapes]
    if not layout.family.fused or not adapted:
        return adapted, []
    ups = [weights["up.weight"] for module, weights in sites.items() if module.endswith(f".{projections['q']}")]
    blocks = [block for block in range(BLOCKS) if any(up.chunk(BLOCKS)[block].any() for up in ups)] or [0]
    return [adapted[block] for block in blocks], blocks


def _require_known(sites: Sites, known: set[str]) -> None:
    """Raise an `ExportError` if a module is adapted that the library does not adapt in this way."""
    if unknown := sorted(set(sites) - known):
        raise ExportError(f"{unknown[0]} is adapted, where the adapters library has no place for this kind of adapter")


WRITERS: dict[str, Callable[[Sites, Layout, str], Written]] = {
    "houlsby": partial(_bottlenecks, activation="gelu"),
    "lora": _lora,
    "pfeiffer": partial(_bottlenecks, activation="relu"),
    "swish": partial(_bottlenecks, activation="swish"),
}
"""Kind of adapter → function of its sites, the base's layers and the adapter's name."""
