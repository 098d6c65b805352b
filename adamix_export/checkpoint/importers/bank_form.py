"""PEFT's layers in the form of a bank: a low-rank pair, an affine change of its output, heads.

A bank's layer is y = Wx, then y + up · down · x, then y + scale ⊙ y + shift. LoRA is the pair; DoRA's magnitudes over
its norms are the scale; trained biases are the shift. IA3 is the scale alone, of the output or of the input. Everything
else is refused by name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import peft
import torch
from peft.tuners.adalora import layer as adalora
from peft.tuners.ia3 import layer as ia3
from peft.tuners.ln_tuning import layer as ln_tuning
from peft.tuners.lora import layer as lora
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

from adamix_export.checkpoint.checkpoint import Checkpoint
from adamix_export.checkpoint.collapse import HEAD, PEFT_PREFIX, AdapterTensors
from adamix_export.checkpoint.importers.low_rank import low_rank
from adamix_export.checkpoint.importers.outputs import output_layer
from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_export.errors import BankError
from adamix_export.tracing.affine import AFFINE, INPUT
from adamix_train.mixture.layers import TRANSPOSED, features

ADAPTER = "default"
"""PEFT's name of the only adapter."""
KIND = "lora"
MERGE = "export it with --shape merged"
RANK_EPSILON = 1e-5
"""Added by AdaLoRA to the rank that it divides by."""
RESIDUAL_STARTS = ("pissa", "olora")
"""Starts of LoRA that subtract the start from the base; PEFT repeats that when it loads the adapter."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """The base's parameters before PEFT loaded the adapter, where it may have changed them."""

    parameters: Mapping[str, Tensor]

    def changed(self, name: str, now: Tensor | None) -> bool:
        """Return True if the parameter `name` is not what it was."""
        return now is not None and name in self.parameters and not torch.equal(self.parameters[name], now)

    def get(self, name: str, now: Tensor | None) -> Tensor | None:
        """Return the parameter `name` as it was."""
        return self.parameters.get(name, now)


def bank_form(checkpoint: Checkpoint, config: peft.PeftConfig) -> AdapterTensors:
    """Return an adapter's tensors in the form of a bank.

    Raises:
        BankError: a layer cannot be written in that form; the message names it.
    """
    model = checkpoint.reference.get_base_model()
    output = None if checkpoint.objective.is_generative else output_layer(model.config)
    before = _before(checkpoint, config)
    tensors: AdapterTensors = {}
    for name, module in _layers(model):
        if type(module) is ModulesToSaveWrapper:
            if output is None:
                raise BankError(
                    f"{checkpoint.folder} trained all of {name} (modules_to_save), which a bank of generators does not "
                    f"hold: {MERGE}"
                )
            tensors |= _saved(name, module)
        elif isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
            readers = OUTPUT_READERS if name == output else READERS
            if type(module) not in readers:
                raise BankError(
                    f"{checkpoint.folder} has {config.peft_type.value}'s {_type(module)} at {name}, which a bank does "
                    f"not hold: {MERGE}{_rank_advice(module)}"
                )
            tensors |= readers[type(module)](name, module, before)
        elif name != output:
            tensors |= _trained(name, module, before)
    if output is not None and f"{output}.{HEAD}.weight" not in tensors:
        tensors |= parameters(output, model.get_submodule(output))
    return {name: tensor.detach().float() for name, tensor in tensors.items()}


def _before(checkpoint: Checkpoint, config: peft.PeftConfig) -> Before:
    """Return the parameters before loading, if the adapter may change those of the base; else none."""
    changes = getattr(config, "init_lora_weights", None) in RESIDUAL_STARTS
    model = checkpoint.reference.get_base_model()
    own = {name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".") for name in read_tensors(checkpoint.folder)}
    if not changes and not own & {name.replace(".base_layer.", ".") for name, _ in model.named_parameters()}:
        return Before(parameters={})
    return Before(parameters=dict(checkpoint.base_model().named_parameters()))


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield every module with its name; those of PEFT are not entered."""
    yield name, module
    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
        return
    for child, below in module.named_children():
        yield from _layers(below, f"{name}.{child}" if name else child)


def _adapted(name: str, layer: lora.Linear, before: Before) -> AdapterTensors:
    """Return the pair, and the affine change if there is one."""
    base, scale = layer.get_base_layer(), _scale(name, layer)
    scaling = layer.scaling[ADAPTER]
    down, up = layer.lora_A[ADAPTER].weight, scaling * layer.lora_B[ADAPTER].weight
    shift = _shift(name, base, scale, before)
    if (own := layer.lora_B[ADAPTER].bias) is not None:
        shift = shift + scaling * scale * own
    if before.changed(f"{name}.weight", base.weight):
        change = base.weight.double() - before.parameters[f"{name}.weight"].double()
        further_down, further_up = low_rank(change.T if TRANSPOSED[type(base)] else change, down.shape[0])
        down, up = torch.cat([down, further_down]), torch.cat([up, further_up], 1)
    tensors = {f"{name}.{KIND}.down.weight": down, f"{name}.{KIND}.up.weight": up}
    return tensors | affine(name, scale, shift)


def _shift(name: str, base: Any, scale: Tensor, before: Before) -> Tensor:
    """Return what the bias adds to the scaled output (out,): its own change, and that it is not scaled itself."""
    bias, was = base.bias, before.get(f"{name}.bias", base.bias)
    return torch.zeros_like(scale) if bias is None or was is None else bias - scale * was


def _adalora(name: str, layer: adalora.SVDLinear, before: Before) -> AdapterTensors:
    """Return the pair: the singular values go into `down`, the rank that is left into `up`."""
    values, rank = layer.lora_E[ADAPTER], layer.ranknum[ADAPTER] + RANK_EPSILON
    scale = torch.ones(layer.lora_B[ADAPTER].shape[0])
    return {
        f"{name}.{KIND}.down.weight": layer.lora_A[ADAPTER] * values,
        f"{name}.{KIND}.up.weight": layer.lora_B[ADAPTER] * layer.scaling[ADAPTER] / rank,
        **affine(name, scale, _shift(name, layer.get_base_layer(), scale, before)),
    }


def _ia3(name: str, layer: ia3.Linear, before: Before) -> AdapterTensors:
    """Return the factor of each input of a feed-forward's layer, or of each output of another one."""
    factors = layer.ia3_l[ADAPTER].flatten()
    if layer.is_feedforward:
        return {f"{name}.{INPUT}.scale.weight": factors - 1}
    return affine(name, factors, torch.zeros_like(factors))


def _layer_norm(name: str, layer: ln_tuning.LNTuningLayer, before: Before) -> AdapterTensors:
    """Return the parameters of a layer norm that was trained as a whole."""
    return parameters(name, layer.ln_tuning_layers[ADAPTER])


def _adapted_head(name: str, layer: lora.Linear, before: Before) -> AdapterTensors:
    """Return the output layer with its adapter folded in: a bank has one for each adapter anyway."""
    base, scale = layer.get_base_layer(), _scale(name, layer)
    tensors = parameters(name, base)
    tensors[f"{name}.{HEAD}.weight"] = scale.unsqueeze(1) * (base.weight + layer.get_delta_weight(ADAPTER))
    if (own := layer.lora_B[ADAPTER].bias) is not None:
        tensors[f"{name}.{HEAD}.bias"] = base.bias + layer.scaling[ADAPTER] * scale * own
    return tensors


def _scale(name: str, layer: lora.Linear) -> Tensor:
    """Return the factor of each output (out,): ones for an ordinary LoRA."""
    base, variant = layer.get_base_layer(), layer.lora_variant.get(ADAPTER)
    if type(base) not in TRANSPOSED:
        raise BankError(f"{name} adapts a {_type(base)}, which a bank does not hold: {MERGE}")
    if variant is None:
        return torch.ones(features(base)[1])
    if type(variant) not in VARIANTS:
        raise BankError(f"{name} is a LoRA of PEFT's {_type(variant)}, which a bank does not hold: {MERGE}")
    return VARIANTS[type(variant)](layer)


def _dora_scale(layer: lora.Linear) -> Tensor:
    """Return the trained magnitude of each output over the norm of its weights."""
    magnitude = layer.lora_magnitude_vector[ADAPTER]
    delta = layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight
    norm = magnitude.get_weight_norm(layer.get_base_layer().weight, delta, layer.scaling[ADAPTER])
    return magnitude.weight / norm


READERS: dict[type, Callable[[str, Any, Before], AdapterTensors]] = {
    lora.Linear: _adapted,
    adalora.SVDLinear: _adalora,
    ia3.Linear: _ia3,
    ln_tuning.LNTuningLayer: _layer_norm,
}
"""Layer of PEFT → function that returns its form in a bank."""
OUTPUT_READERS: dict[type, Callable[[str, Any, Before], AdapterTensors]] = {lora.Linear: _adapted_head}
"""The same for the output layer, of which a bank has one for each adapter."""
VARIANTS: dict[type, Callable[[lora.Linear], Tensor]] = {DoraLinearVariant: _dora_scale}
"""Variant of LoRA → function that returns the factor of each output."""


def _saved(name: str, module: ModulesToSaveWrapper) -> AdapterTensors:
    """Return the parameters of a module that was trained as a whole."""
    return parameters(name, module.modules_to_save[ADAPTER])


def _trained(name: str, module: nn.Module, before: Before) -> AdapterTensors:
    """Return the change of a layer without an adapter whose own parameters were trained: its bias."""
    changed = [
        parameter
        for parameter, weight in module.named_parameters(recurse=False)
        if before.changed(f"{name}.{parameter}", weight)
    ]
    if not changed:
        return {}
    if isinstance(module, nn.LayerNorm):
        return parameters(name, module)
    if changed == ["bias"] and type(module) in TRANSPOSED:
        shift = module.bias - before.parameters[f"{name}.bias"]  # type: ignore[operator]
        return affine(name, torch.ones_like(shift), shift)
    raise BankError(f"{name}.{changed[0]} was trained, and a bank does not hold a {_type(module)}: {MERGE}")


def parameters(name: str, module: nn.Module) -> AdapterTensors:
    """Return all parameters of a module as a head."""
    tensors: AdapterTensors = {}
    for parameter, weight in module.named_parameters():
        inner, _, kind = parameter.rpartition(".")
        owner = module.get_submodule(inner)
        if type(owner) not in TRANSPOSED and not isinstance(owner, nn.LayerNorm):
            raise BankError(f"all of {name} was trained, and a bank does not hold its {_type(owner)}: {MERGE}")
        tensors[f"{name}{'.' if inner else ''}{inner}.{HEAD}.{kind}"] = weight
    return tensors


def affine(name: str, scale: Tensor, shift: Tensor) -> AdapterTensors:
    """Return the affine change of an output; nothing if it changes nothing."""
    if bool((scale == 1).all()) and not shift.any():
        return {}
    return {f"{name}.{AFFINE}.out.weight": scale - 1, f"{name}.{AFFINE}.out.bias": shift}


def _rank_advice(module: nn.Module) -> str:
    """Return how a bank can hold a layer of PEFT around a projection; nothing for another layer."""
    around = module.get_base_layer() if isinstance(module, BaseTunerLayer) else None
    return ", or with --rank R or --rank-energy 0.99, which make it a LoRA" if type(around) in TRANSPOSED else ""


def _type(thing: object) -> str:
    return type(thing).__name__
