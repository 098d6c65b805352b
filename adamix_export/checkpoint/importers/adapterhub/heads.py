"""Prediction heads of the library on a classifier of transformers: in its own layers where they have the same form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adamix_export.checkpoint.collapse import AdapterTensors
from adamix_export.checkpoint.importers.adapterhub.families import FAMILIES, Form
from adamix_export.checkpoint.importers.adapterhub.fields import activation
from adamix_export.checkpoint.importers.adapterhub.folder import Folder, Head
from adamix_export.checkpoint.importers.bank_form import MERGE
from adamix_export.checkpoint.importers.grafted.importer import OwnHead, own_head
from adamix_export.checkpoint.importers.grafted.modules import linear
from adamix_export.checkpoint.importers.grafted.tensors import Tensors
from adamix_export.errors import BankError, ExportError
from adamix_export.tracing.merged import replace_module

CLASSIFICATION, MULTI_LABEL, CAUSAL = "classification", "multilabel_classification", "causal_lm"
TASK_TYPES = {CLASSIFICATION: "SEQ_CLS", MULTI_LABEL: "SEQ_CLS", CAUSAL: "CAUSAL_LM"}
"""`head_type` of a flexible head → task type, by PEFT's name; all others are refused by name."""


@dataclass(frozen=True)
class FreeHead:
    """A head of another form than the classifier has."""

    layers: nn.Sequential
    reads_pooler: bool
    place: Callable[[PreTrainedModel, nn.Sequential, bool], None]
    form: Form

    def attach(self, model: PreTrainedModel) -> None:
        """Replace the classifier by the head."""
        self.place(model, self.layers, self.reads_pooler)

    def provides(self, module: str) -> bool:
        """Return True if a module is replaced: any but a pooler that the head reads."""
        return not (self.reads_pooler and module.endswith("pooler"))

    def bank_form(self) -> AdapterTensors:
        """Raise a `BankError`."""
        layers, activation, _ = self.form
        raise BankError(
            f"the head has {layers} layers and the activation {activation}, which is not the form of this base's "
            f"classifier, and a bank does not hold it: {MERGE}"
        )


def read_head(model: PreTrainedModel, folder: Folder, head: Head, outputs: int) -> OwnHead | FreeHead:
    """Return the head that is stored in a folder.

    Raises:
        ExportError: a head of this form is not exported on this base.
        CheckpointError: its tensors are not those of its configuration.
    """
    tensors = Tensors(head.tensors, folder.path)
    if model.can_generate():
        return _language(model, tensors)
    if head.config is None:
        return _static(model, head, tensors)
    layers = _layers(model, folder.name, head.config, tensors, outputs)
    form = (len(layers), _between(head.config), bool(head.config.get("use_pooler")))
    family = FAMILIES[folder.model_type]
    if form in family.heads:
        return OwnHead(dict(zip(family.heads[form], (dict(layer.named_parameters()) for layer in layers), strict=True)))
    if not family.free_head or (form[2] and family.free_head != "after_pooler"):
        raise ExportError(
            f"{folder.path} has a head of {form[0]} layers{', after the pooler,' if form[2] else ''} that a classifier "
            f"of {folder.model_type} cannot have"
        )
    modules: list[nn.Module] = [layers[0]]
    for layer in layers[1:]:
        modules += [activation(form[1]) if form[1] else nn.Identity(), layer]
    return FreeHead(nn.Sequential(*modules), form[2], PLACES[family.free_head], form)


def _between(config: Any) -> str | None:
    """Return the activation between the layers of a head; None if there is only one."""
    name = config.get("activation_function")
    return name.lower() if name and config.get("layers", 1) > 1 else None


def _layers(model: PreTrainedModel, name: str, config: Any, tensors: Tensors, outputs: int) -> list[nn.Linear]:
    """Return the linear layers of a flexible head; they are numbered with the dropouts and activations between them."""
    width, step = model.config.hidden_size, 3 if _between(config) else 2
    layers = []
    count = config.get("layers", 1)
    for index in range(count):
        last = index == count - 1
        prefix, rows = f"heads.{name}.{1 + index * step}", outputs if last else width
        weight = tensors.take(f"{prefix}.weight", rows, width)
        biased = not last or config.get("bias", True)
        layers.append(linear(weight, tensors.take(f"{prefix}.bias", rows) if biased else torch.zeros(rows)))
    tensors.require_all_taken()
    return layers


def _static(model: PreTrainedModel, head: Head, tensors: Tensors) -> OwnHead:
    """Return a head of transformers, which has the names of its own model."""
    if head.model_class != type(model).__name__:
        raise ExportError(
            f"{tensors.path} has the head of a {head.model_class}, which is not exported on this base: it is a "
            f"{type(model).__name__}"
        )
    return own_head(model, tensors)


def _language(model: PreTrainedModel, tensors: Tensors) -> OwnHead:
    """Return no layers for a language model's head that equals the base's; raise an `ExportError` for any other."""
    own = model.get_output_embeddings().weight
    if len(tensors.left) == 1 and all(weight.equal(own) for weight in tensors.left.values()):
        return OwnHead({})
    raise ExportError(
        f"{tensors.path} has a language model's head that is not the base's, which is not exported: train it on the "
        "base's own head, with adapters.init(AutoModelForCausalLM.from_pretrained(…))"
    )


class FirstToken(nn.Module):
    """The hidden state of the first token."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width) of x (batch, sequence, width)."""
        return x[:, 0]


class Signs(nn.Module):
    """x and -x side by side: behind a ReLU their difference is x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, 2 · width) of x (batch, width)."""
        return torch.cat([x, -x], -1)


class Difference(nn.Module):
    """The first half minus the second."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width) of x (batch, 2 · width)."""
        first, second = x.chunk(2, -1)
        return first - second


def _after_pooler(model: PreTrainedModel, layers: nn.Sequential, reads_pooler: bool) -> None:
    """Put a head behind the pooler, or behind the first token in its place."""
    if not reads_pooler:
        body = f"{model.base_model_prefix}." if hasattr(model.base_model, "pooler") else ""
        replace_module(model, f"{body}pooler", FirstToken())
    replace_module(model, "classifier", layers)


def _whole_classifier(model: PreTrainedModel, layers: nn.Sequential, reads_pooler: bool) -> None:
    """Put a head in the place of a classifier that reads all tokens."""
    replace_module(model, "classifier", nn.Sequential(FirstToken(), *layers))


def _around_relu(model: PreTrainedModel, layers: nn.Sequential, reads_pooler: bool) -> None:
    """Put a head in the place of DistilBERT's two layers, whose ReLU stays between them without effect."""
    replace_module(model, "pre_classifier", nn.Sequential(*list(layers)[:-1], Signs()))
    replace_module(model, "classifier", nn.Sequential(Difference(), layers[-1]))


PLACES: dict[str, Callable[[PreTrainedModel, nn.Sequential, bool], None]] = {
    "after_pooler": _after_pooler,
    "whole_classifier": _whole_classifier,
    "around_relu": _around_relu,
}
"""Name in `Family.free_head` → function that puts a head into a classifier."""
