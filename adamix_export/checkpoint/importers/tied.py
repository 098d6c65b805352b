"""Embeddings that a model ties to its output layer."""

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


def untie_adapted_embeddings(model: peft.PeftModel) -> None:
    """Give the output layer a weight of its own if it shares that of the embeddings and one of the two is adapted.

    A merge would change both otherwise.
    """
    base = model.get_base_model()
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    if not any(isinstance(end, BaseTunerLayer | AuxiliaryTrainingWrapper) for end in ends):
        return
    source, output = (_original(end) for end in ends)
    if output is not None and getattr(output, "weight", None) is getattr(source, "weight", None):
        output.weight = nn.Parameter(output.weight.detach().clone(), requires_grad=False)  # type: ignore[operator]
        base.config.tie_word_embeddings = False


def _original(module: nn.Module | None) -> nn.Module | None:
    """Return the base's own module below PEFT's wrappers."""
    if isinstance(module, BaseTunerLayer):
        return _original(module.get_base_layer())
    if isinstance(module, AuxiliaryTrainingWrapper):
        return _original(module.original_module)
    return module
