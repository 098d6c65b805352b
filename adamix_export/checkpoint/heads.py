"""Heads of a bank: every adapter has all of the modules that one of them replaces."""

from collections.abc import Sequence

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import HEAD, AdapterTensors
from adamix_export.tracing.merged import by_site


def add_missing_heads(checkpoints: Sequence[Checkpoint], adapters: dict[str, AdapterTensors]) -> None:
    """Add the base's own weights to `adapters`, by name, where another adapter replaces a module and they do not.

    A bank would fill the missing module with zeros instead.
    """
    replaced = {name: {site for site, kind in by_site(tensors) if kind == HEAD} for name, tensors in adapters.items()}
    everywhere = set().union(*replaced.values())
    for checkpoint in checkpoints:
        missing = sorted(everywhere - replaced[checkpoint.name])
        if not missing:
            continue
        base = checkpoint.base_model()
        for site in missing:
            parameters = base.get_submodule(site).named_parameters()
            own = {f"{site}.{HEAD}.{name}": weight.detach() for name, weight in parameters}
            adapters[checkpoint.name] = {**adapters[checkpoint.name], **own}
