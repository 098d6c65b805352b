"""An adapter of any method that PEFT merges, as the closest LoRA of a rank."""

from torch import nn

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import HEAD, PEFT_PREFIX, AdapterTensors
from adamix_export.checkpoint.importers.bank_form import KIND, MERGE, affine, parameters
from adamix_export.checkpoint.importers.low_rank import Rank, closest
from adamix_export.checkpoint.importers.outputs import output_layer
from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_export.errors import BankError
from adamix_train.mixture.layers import TRANSPOSED


def approximation(checkpoint: Checkpoint, rank: Rank) -> AdapterTensors:
    """Return the merged model's difference from its base, in the form of a bank; biases and heads are exact.

    Raises:
        BankError: the adapter changes a layer that no LoRA changes; the message names it.
    """
    before, after = checkpoint.base_model(), checkpoint.merged()
    saved = {name.removeprefix(PEFT_PREFIX) for name in read_tensors(checkpoint.folder)}
    tensors: AdapterTensors = {}
    for name, layer in after.named_modules():
        was = before.get_submodule(name)
        if not changed(was, layer):
            continue
        whole = f"{name}.weight" in saved and not checkpoint.objective.is_generative
        if whole or isinstance(layer, nn.LayerNorm):
            tensors |= parameters(name, layer)
        elif type(layer) in TRANSPOSED:
            tensors |= _linear(name, was, layer, rank)
        else:
            raise BankError(f"{checkpoint.folder} changes the {type(layer).__name__} at {name}: {MERGE}")
    if not checkpoint.objective.is_generative:
        output = output_layer(after.config)
        if f"{output}.{HEAD}.weight" not in tensors:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{output}.")}
            tensors |= parameters(output, after.get_submodule(output))
    return {name: tensor.detach().float() for name, tensor in tensors.items()}


def changed(was: nn.Module, layer: nn.Module) -> bool:
    """Return True if a parameter of the layer itself is another than it was."""
    own = dict(was.named_parameters(recurse=False))
    return any(not weight.equal(own[name]) for name, weight in layer.named_parameters(recurse=False))


def _linear(name: str, was: nn.Module, layer: nn.Module, rank: Rank) -> AdapterTensors:
    change = layer.weight.double() - was.weight.double()  # type: ignore[operator]
    down, up = closest(change.T if TRANSPOSED[type(layer)] else change, rank)
    tensors = {f"{name}.{KIND}.down.weight": down, f"{name}.{KIND}.up.weight": up}
    if layer.bias is None:
        return tensors
    shift = layer.bias - was.bias  # type: ignore[operator]
    return tensors | affine(name, shift.new_ones(shift.shape), shift)
