"""An adapter of a bundle as LoRA pairs, for tools that know nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from adamix_export.checkpoint.collapse import HEAD, AdapterTensors
from adamix_export.errors import ExportError
from adamix_export.tracing.merged import by_site
from serve.bundle.adapter import Adapter

KIND = "lora"


@dataclass(frozen=True)
class LoraSites:
    """The parts of a LoRA, whose scaling is folded into `up`."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    """Module of the base → `down` (r, in) and `up` (out, r)."""
    heads: dict[str, AdapterTensors]
    """Module that was trained as a whole → its weight and bias."""


def padded(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return `down` (rank, in) and `up` (out, rank) with zeros in place of the ranks that they lack."""
    missing = rank - down.shape[0]
    return pad(down, (0, 0, 0, missing)), pad(up, (0, missing))


def only_adapter(adapters: Sequence[Adapter], what: str) -> Adapter:
    """Return the only adapter; raise an `ExportError` that says `what` is one adapter if there are several."""
    if len(adapters) != 1:
        names = ", ".join(adapter.card.name for adapter in adapters)
        raise ExportError(f"{what} is one adapter, and the bundle has {names}: choose one with --adapter")
    return adapters[0]


def lora_sites(adapter: Adapter, tool: str) -> LoraSites:
    """Return the pairs and heads of an adapter; raise an `ExportError` if it has a part that `tool` does not have."""
    if adapter.card.kind != KIND:
        raise ExportError(
            f"{adapter.card.name} is a {adapter.card.kind} adapter, which {tool} does not have: only {KIND} converts"
        )
    found = LoraSites({}, {})
    for (module, kind), weights in by_site(
        {name: torch.from_numpy(tensor) for name, tensor in adapter.tensors.items()}
    ).items():
        if kind == HEAD:
            found.heads[module] = weights
        elif kind == KIND:
            found.pairs[module] = weights["down.weight"], weights["up.weight"]
        else:
            raise ExportError(
                f"{adapter.card.name} changes the output of {module} beside its LoRA (a trained bias, or magnitudes), "
                f"which {tool} does not have"
            )
    return found
