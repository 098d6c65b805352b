"""Places of a mixture's stored tensors in its base, compared by name and size before any weight is loaded."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import split_sites
from adamix_train.base_model.load import load_config
from adamix_train.errors import CheckpointError

ADVICE = "save the adapter again, or name the base that it was trained on with --base"


def require_places(tensors: Mapping[str, Tensor], saved: Iterable[str], checkpoint: Checkpoint) -> None:
    """Raise a `CheckpointError` that names the first tensor without a place in the base, or that is missing.

    Args:
        tensors: Stored tensors by name.
        saved: Modules that were trained as a whole, `modules_to_save`; those that the base lacks are ignored.
        checkpoint: Checkpoint of the mixture.
    """
    sites, heads = split_sites(tensors)
    expected = _sizes(checkpoint)
    modules = {module for name in expected for module in _parents(name)}
    for name in [name for name in heads if name not in expected] + [site for site in sites if site not in modules]:
        stored = next(full for full in sorted(tensors) if name in full)
        raise CheckpointError(f"{stored} in {checkpoint.folder} has no place in {checkpoint.base}: {ADVICE}")
    for name, tensor in heads.items():
        if tensor.shape != expected[name]:
            found, takes = (" × ".join(map(str, sizes)) for sizes in (tensor.shape, expected[name]))
            raise CheckpointError(
                f"{name} in {checkpoint.folder} is {found}, and {checkpoint.base} takes {takes}: {ADVICE}"
            )
    named = tuple(saved)
    whole = {module for module in modules if f".{module}".endswith(tuple(f".{name}" for name in named))}
    whole |= {name.rpartition(".")[0] for name in heads}
    for name in expected:
        if name not in heads and whole.intersection(_parents(name)):
            raise CheckpointError(
                f"{checkpoint.folder} lacks {name}, which it was trained with (modules_to_save): save the adapter again"
            )


def _sizes(checkpoint: Checkpoint) -> dict[str, torch.Size]:
    """Return the sizes of the base's tensors by name; memory is taken for none of them."""
    config = load_config(checkpoint.base)
    for field, value in checkpoint.objective.settings(checkpoint.card.labels).items():
        setattr(config, field, value)
    with torch.device("meta"):
        model = checkpoint.objective.model.from_config(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _parents(name: str) -> list[str]:
    """Return the modules around a tensor, the innermost first."""
    found = []
    while name := name.rpartition(".")[0]:
        found.append(name)
    return found
