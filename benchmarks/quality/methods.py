"""The methods that are compared; a new method is an entry in the table."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train, as fields of a recipe."""

    what: str
    fields: dict[str, Any]
    rates: tuple[float, ...]
    """Learning rates that are tried, as many for every method."""
    views: float = 1
    """Passes of an example in a step, on average over the steps: a method with two gets half the epochs and half the
    batch, so that all methods take the same number of optimizer steps and send the same number of rows through the
    base."""


ADAPTER_RATES = (1e-3, 3e-3, 6e-3, 1.2e-2)
LORA_RATES = (3e-4, 1e-3, 3e-3, 6e-3)
FULL_RATES = (5e-5, 1.5e-4, 2.5e-4, 4e-4)
HEAD_RATES = (3e-3, 1e-2, 3e-2, 1e-1)
CONSISTENT = {"consistency_weight": 1.0}
ALONE = {"consistency_weight": 0.0}
PUBLISHED = {"routing": "batch", "consistency_from": 0.0, "labels_on": "first"}
"""Routes and views of AdaMix as published, which are no longer the default."""
LATE_VIEWS = {**CONSISTENT, "consistency_from": 0.5, "labels_on": "both"}

CLASSIFIERS: dict[str, Method] = {
    "full": Method(what="all weights", fields={"method": "full"}, rates=FULL_RATES),
    "head": Method(what="the head only", fields={"method": "head"}, rates=HEAD_RATES),
    "adapter": Method(
        what="one adapter",
        fields={"num_modules": 1, **ALONE},
        rates=ADAPTER_RATES,
    ),
    "adapter-consistency": Method(
        what="one adapter, two views that differ by dropout",
        fields={"num_modules": 1, **CONSISTENT},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adamix": Method(what="AdaMix", fields={**CONSISTENT, **PUBLISHED}, rates=ADAPTER_RATES, views=2),
    "adamix-no-consistency": Method(what="AdaMix, one view", fields={**ALONE, **PUBLISHED}, rates=ADAPTER_RATES),
    "adamix-no-sharing": Method(
        what="AdaMix, up and down projections in every module",
        fields={"share": "none", **CONSISTENT, **PUBLISHED},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adamix-example": Method(
        what="AdaMix, a route for every example",
        fields={"routing": "example", **CONSISTENT},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adamix-fixed": Method(
        what="AdaMix, the same route in every step",
        fields={"routing": "fixed", **CONSISTENT},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adamix-8": Method(
        what="AdaMix, eight modules", fields={"num_modules": 8, **CONSISTENT, **PUBLISHED}, rates=ADAPTER_RATES, views=2
    ),
    "shares": Method(
        what="AdaMix, equal shares of every batch, two views in the second half, labels on both",
        fields={"routing": "shares", **LATE_VIEWS},
        rates=ADAPTER_RATES,
        views=1.5,
    ),
    "split": Method(
        what="one module for a quarter of the steps, then copies of it with equal shares, views as shares",
        fields={"routing": "shares", "split_after": 0.25, **LATE_VIEWS},
        rates=ADAPTER_RATES,
        views=1.5,
    ),
    "adapter-views": Method(
        what="one adapter, two views that differ by dropout, labels on both",
        fields={"num_modules": 1, **CONSISTENT, "labels_on": "both"},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adapter-views-dropout": Method(
        what="the same with a dropout of 0.2 in the base",
        fields={"num_modules": 1, **CONSISTENT, "labels_on": "both", "base_dropout": 0.2},
        rates=ADAPTER_RATES,
        views=2,
    ),
    "adapter-late-views": Method(
        what="one adapter, two views in the second half, labels on both",
        fields={"num_modules": 1, **LATE_VIEWS},
        rates=ADAPTER_RATES,
        views=1.5,
    ),
    "adapter-swa": Method(
        what="one adapter, the mean of its weights over the last quarter of the steps",
        fields={"num_modules": 1, **ALONE, "average": "last:0.25"},
        rates=ADAPTER_RATES,
    ),
    "adapter-ema": Method(
        what="one adapter, the exponential mean of its weights",
        fields={"num_modules": 1, **ALONE, "average": "ema:0.99"},
        rates=ADAPTER_RATES,
    ),
    "adapter-stopped": Method(
        what="one adapter, stopped after three evaluations without improvement",
        fields={"num_modules": 1, **ALONE, "early_stopping": 3},
        rates=ADAPTER_RATES,
    ),
    "lora": Method(
        what="one LoRA, r = 16",
        fields={"kind": "lora", "num_modules": 1, "lora_alpha": 16.0, **ALONE},
        rates=LORA_RATES,
    ),
    "wide-lora": Method(
        what="one LoRA, r = 64 in training, cut to 16",
        fields={"kind": "lora", "num_modules": 1, "lora_alpha": 16.0, "expand_rank": 64, **ALONE},
        rates=LORA_RATES,
    ),
    "peft-lora": Method(
        what="PEFT's LoRA, r = 16", fields={"method": "peft-lora", "lora_alpha": 16.0}, rates=LORA_RATES
    ),
}
"""Methods on MiniLM; adapters have r = 16 behind the feed-forward."""

_LORA = {"kind": "lora", "r": 8, "lora_alpha": 16.0}
WRITERS: dict[str, Method] = {
    "full": Method(what="all weights", fields={"method": "full"}, rates=(1e-5, 2e-5, 5e-5, 1.5e-4)),
    "lora": Method(
        what="one LoRA",
        fields={**_LORA, "num_modules": 1, "consistency_weight": 0.0},
        rates=LORA_RATES,
    ),
    "adamix-lora": Method(
        what="AdaMix of LoRA",
        fields={**_LORA, "consistency_weight": 1.0},
        rates=LORA_RATES,
        views=2,
    ),
}
"""Methods on SmolLM2; r = 8 at query and value."""
