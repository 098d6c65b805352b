"""Checkpoints of microsoft/AdaMix, the authors' own code, converted to safetensors; docs/export.md has the map.

Each projection is a list of modules; the adapter is their mean, weighed by the softmax of the scores beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint
from adamix_export.checkpoint.importers.card import CAUSAL, CLASSIFIER, Origin, configured_labels, make_checkpoint
from adamix_export.checkpoint.importers.grafted.importer import GraftedImporter, OwnHead, own_head
from adamix_export.checkpoint.importers.grafted.modules import (
    Behind,
    Bottleneck,
    BottleneckGraft,
    Graft,
    LinearChange,
    in_blocks,
    linear,
)
from adamix_export.checkpoint.importers.grafted.tensors import Tensors
from adamix_export.checkpoint.importers.named_base import named_base, tokenizer_folder
from adamix_export.checkpoint.importers.outputs import output_layer
from adamix_export.checkpoint.importers.stored import read_tensors
from adamix_export.errors import ExportError
from adamix_train.base_model.load import load_config, load_tokenizer
from adamix_train.errors import CheckpointError
from adamix_train.mixture.layers import features

WEIGHTS, PICKLE = "expert_soup.safetensors", "pytorch_model_expert_soup.bin"
ALPHA = "lora_alpha"
"""Field of the file's metadata: the tensors of a LoRA do not say it."""
HEAD, SCORES, OLD_MEANS = "classifier.", "expert_score_weight", (".lora_A_w", ".lora_B_w")
"""Start of a head's names, end of the scores', and ends of means that the code keeps beside the modules."""
QUERY_AND_VALUE = (0, 2)
"""Blocks of GPT-2's fused projection that have LoRA."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a family's adapters; names are below the body, and `{}` is the number of a layer."""

    holder: str
    """Module that holds a bottleneck's mixture and the projection in front of it."""
    dense: str
    activation: str
    fused: str | None = None
    """Projection that has LoRA."""


ENCODER = Place(holder="encoder.layer.{}.output", dense="dense", activation="gelu")
PLACES = {
    "bert": ENCODER,
    "roberta": ENCODER,
    "gpt2": Place(holder="h.{}.mlp", dense="c_proj", activation="gelu_new", fused="h.{}.attn.c_attn"),
}
"""`model_type` of the base → place."""


@dataclass(frozen=True)
class OriginalImporter(GraftedImporter):
    """Importer of the mean of a mixture."""

    path: Path
    tensors: Mapping[str, Tensor]
    place: Place
    alpha: float | None
    """LoRA's alpha; None for bottlenecks."""

    @property
    def kind(self) -> str:
        """Kind of adapter."""
        return "bottleneck" if self.alpha is None else "lora"

    @property
    def r(self) -> int:
        """Rank or bottleneck width."""
        ends = (".MoA_B.deepspeed_experts.0.weight", ".experts_lora_B.0")
        return max((tensor.shape[1] for name, tensor in self.tensors.items() if name.endswith(ends)), default=0)

    @property
    def num_modules(self) -> int:
        """Modules of the projections that do not share one."""
        return max((len(tensor) for name, tensor in self.tensors.items() if name.endswith(SCORES)), default=1)

    def grafts(self, model: PreTrainedModel, checkpoint: Checkpoint) -> list[Graft]:
        """Return the mean of the modules at each place, weighed by the checkpoint's weights if it has any."""
        stored = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(HEAD)}
        means = Means(stored, self.path, prefix=model.base_model_prefix, weights=checkpoint.weights)
        layers = range(model.config.num_hidden_layers)
        grafts: list[Graft] = [
            (self._bottleneck if self.alpha is None else self._lora)(i, model, means) for i in layers
        ]
        means.left = {name: tensor for name, tensor in means.left.items() if not name.endswith(SCORES)}
        means.require_all_taken()
        return grafts

    def head(self, model: PreTrainedModel, outputs: int) -> OwnHead | None:
        """Return the classifier's layers; None for a generator."""
        stored = {name: tensor for name, tensor in self.tensors.items() if name.startswith(HEAD)}
        return own_head(model, Tensors(stored, self.path)) if stored else None

    def _bottleneck(self, index: int, model: PreTrainedModel, means: "Means") -> BottleneckGraft:
        holder = self.place.holder.format(index)
        module = f"{model.base_model_prefix}.{holder}.{self.place.dense}"
        width, r = features(model.get_submodule(module))[1], self.r

        def projection(side: str, *shape: int) -> nn.Linear:
            soup = f"{holder}.ExpertSoup.{side}"
            of = {"scores": f"{soup}.{SCORES}", "modules": f"{soup}.deepspeed_experts.{{}}"}
            return linear(means.mean(**of, end=".weight", shape=shape), means.mean(**of, end=".bias", shape=shape[:1]))

        down, up = projection("MoA_A", r, width), projection("MoA_B", width, r)
        activation = self.place.activation
        return BottleneckGraft(
            module=module,
            around=Behind,
            bottleneck=Bottleneck(down, up, ACT2FN[activation], nn.Identity(), nn.Identity(), after_residual=False),
            activation=activation,
        )

    def _lora(self, index: int, model: PreTrainedModel, means: "Means") -> LinearChange:
        assert self.place.fused is not None and self.alpha is not None
        name = self.place.fused.format(index)
        module = f"{model.base_model_prefix}.{name}"
        (width_in, width_out), r, pairs = features(model.get_submodule(module)), self.r, len(QUERY_AND_VALUE)
        down, up = (
            means.mean(scores=f"{name}.lora_{SCORES}", modules=f"{name}.experts_lora_{side}.{{}}", end="", shape=shape)
            for side, shape in (("A", (pairs * r, width_in)), ("B", (width_out // 3 * pairs, r)))
        )
        up = in_blocks(up * (self.alpha / r), QUERY_AND_VALUE, width_out)
        return LinearChange(module=module, down=down, up=up, scale=None)


class Means(Tensors):
    """Stored tensors of mixtures, of which the means are taken."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path, *, prefix: str, weights: Sequence[float]) -> None:
        super().__init__(tensors, path, prefix=prefix)
        self.weights = weights

    def mean(self, *, scores: str, modules: str, end: str, shape: tuple[int, ...]) -> Tensor:
        """Return the mean over the modules' tensors, `modules` with a number for `{}` and `end`; one is shared.

        Raises:
            CheckpointError: a tensor is missing or has another shape, or there are not as many scores as modules.
        """
        count = 1
        while modules.format(count) + end in self.left:
            count += 1
        stack = torch.stack([self.take(modules.format(index) + end, *shape) for index in range(count)])
        if count == 1:
            return stack[0]
        if scores not in self.left or self.left[scores].shape != (count,):
            raise CheckpointError(f"{self.path} lacks {scores} with a score for each of {count} modules")
        shares = torch.tensor(self.weights) if self.weights else self.left[scores].softmax(0)
        return torch.tensordot(shares, stack, 1)


def open_original(argument: Argument) -> Checkpoint:
    """Open a folder with a converted checkpoint of microsoft/AdaMix."""
    folder = argument.folder
    tensors = {
        name.removeprefix("module."): tensor.float()
        for name, tensor in read_tensors(folder, WEIGHTS, PICKLE).items()
        if not name.endswith(OLD_MEANS)
    }
    base = named_base(argument, None)
    config = load_config(base)
    if config.model_type not in PLACES:
        raise ExportError(f"{base} is a {config.model_type}, and microsoft/AdaMix adapts {', '.join(PLACES)}")
    alpha = _alpha(folder, config) if any(".experts_lora_" in name for name in tensors) else None
    generates = not any(name.startswith(HEAD) for name in tensors)
    output = None if generates else tensors.get(f"{output_layer(config)}.weight")
    tokenizer = tokenizer_folder(folder, base)
    origin = Origin(
        folder=folder,
        base=base,
        config=config,
        named_labels=configured_labels(config),
        tokenizer=load_tokenizer(tokenizer),
        task_type=CAUSAL if generates else CLASSIFIER,
        outputs=None if output is None else output.shape[0],
        method="peft-lora",
    )
    importer = OriginalImporter(folder, tensors, PLACES[config.model_type], alpha)
    return make_checkpoint(origin, argument, importer, tokenizer_folder=tokenizer)


def _alpha(folder: Path, config: PretrainedConfig) -> float:
    """Return LoRA's alpha from the file's metadata."""
    if PLACES[config.model_type].fused is None:
        raise ExportError(
            f"{folder} is a mixture of LoRA, and its base is a {config.model_type}: name GPT-2 with --base"
        )
    with safe_open(folder / WEIGHTS, "pt") as file:
        metadata = file.metadata() or {}
    try:
        return float(metadata[ALPHA])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} does not say LoRA's alpha in its metadata: convert it again as docs/export.md says, "
            f"with {{'{ALPHA}': '32'}} (or what --lora_alpha was)"
        ) from error
