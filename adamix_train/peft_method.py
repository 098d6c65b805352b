"""AdaMix as a PEFT method: the one file that knows PEFT.

Importing it makes `peft.get_peft_model(model, AdaMixConfig(...))` and `PeftModel.from_pretrained` work.
"""

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from adamix_train.families import default_targets, fused_blocks
from adamix_train.mixture.kinds import KINDS, make_adapter
from adamix_train.mixture.layers import features
from adamix_train.mixture.projection import MixtureLinear, collapse, mixture_projection
from adamix_train.mixture.routing import Route, set_route
from adamix_train.mixture.shape import AdapterShape

SHARES = ("up", "down", "none")


class AdaMixType(enum.StrEnum):
    """The method's name where PEFT expects a member of its own enumeration."""

    ADAMIX = "ADAMIX"


@dataclass
class AdaMixConfig(peft.PeftConfig):
    """The shape of a mixture. `target_modules` and `modules_to_save` mean what they mean in PEFT's LoRA."""

    kind: str = field(default="houlsby", metadata={"help": "adapter kind: " + ", ".join(KINDS)})
    num_modules: int = field(default=4, metadata={"help": "modules in each mixture; 1 is the plain adapter"})
    r: int = field(default=16, metadata={"help": "bottleneck width (houlsby) or rank (lora)"})
    lora_alpha: float = field(default=32.0, metadata={"help": "LoRA scales its output by lora_alpha / r"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout on LoRA's input"})
    share: str = field(default="up", metadata={"help": "the projection that all modules share: up, down or none"})
    near_identity: bool = field(
        default=False, metadata={"help": "start bottlenecks with almost no effect instead of the original's N(0, 0.02)"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the routes"})
    sites: list[str] | None = field(
        default=None, metadata={"help": "attention, feed_forward, query_value; by default the kind's own"}
    )
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "names, or a regular expression over names, of the projections to adapt"}
    )
    fused: dict[str, list[int]] = field(
        default_factory=dict,
        metadata={"help": "pattern of fused projections: the number of blocks in their output, and those adapted"},
    )
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "modules trained whole: the head"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AdaMixType.ADAMIX
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; known are {', '.join(KINDS)}")
        if self.share not in SHARES:
            raise ValueError(f"share is {self.share!r}; known are {', '.join(SHARES)}")
        for name in ("num_modules", "r"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout is {self.lora_dropout}; it must be in [0, 1)")


class AdaMixLayer(nn.Module, BaseTunerLayer):
    """A linear layer of the base and, by adapter name, the mixture around it."""

    adapter_layer_names = ("adamix_modules",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: AdaMixConfig, name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adamix_modules = nn.ModuleDict()
        self.add(adapter_name, config, name)

    def add(self, adapter_name: str, config: AdaMixConfig, name: str) -> None:
        """Put a freshly initialised mixture around the layer, whose name in the model is `name`."""
        base = self.get_base_layer()
        in_features, out_features = features(base)
        fused = fused_blocks(config.fused, name)
        shape = AdapterShape(
            in_features=in_features,
            out_features=out_features,
            near_identity=config.near_identity,
            blocks=fused.adapted,
            block_count=fused.count,
            r=config.r,
            lora_alpha=config.lora_alpha,
            dropout=config.lora_dropout,
        )
        adapter = make_adapter(config.kind, shape, mixture_projection(config.num_modules, share=config.share))
        adapter.reset_parameters()
        self.adamix_modules[adapter_name] = adapter
        self.train(base.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Project x (batch, …, in) to (batch, …, out) through the base layer and the active adapters."""
        y = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name in self.adamix_modules:
                adapter = self.adamix_modules[name]
                dtype = adapter.down.weight.dtype
                y = adapter(x.to(dtype), y.to(dtype)).to(y.dtype)
        return y

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Return the base layer, with the collapsed adapters merged into it if `merge`; PEFT calls this."""
        layer = self.get_base_layer()
        for name in (adapter_names or self.active_adapters) if merge else ():
            adapter = self.adamix_modules[name]
            collapse(adapter)
            if safe_merge and not all(torch.isfinite(weight).all() for weight in adapter.parameters()):
                raise ValueError(f"adapter {name!r} has weights that are not finite; it was not merged")
            layer = adapter.merge(layer)
        return layer


class AdaMixModel(BaseTuner):
    """A model with mixtures at its target modules.

    A forward in training mode takes `route=Route(...)`; without one each forward is the next step, with one view.
    """

    prefix = "adamix_"
    tuner_layer_cls = AdaMixLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def forward(self, *args: Any, route: Route | None = None, **kwargs: Any) -> Any:
        """Run the model; in training mode, give every mixture its route first."""
        if self.training:
            self.forwards = getattr(self, "forwards", -1) + 1
            route = route or Route(step=self.forwards)
            for name in self.active_adapters:
                set_route(self.mixtures(name), route, seed=self.peft_config[name].seed)
        return self.model(*args, **kwargs)

    def mixtures(self, adapter_name: str) -> dict[str, MixtureLinear]:
        """Return the mixtures of one adapter by site: the projection's name without the adapter's."""
        marker = f".adamix_modules.{adapter_name}."
        return {
            name.replace(marker, "."): module
            for name, module in self.model.named_modules()
            if isinstance(module, MixtureLinear) and marker in name
        }

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Return the key that a checkpoint has for a parameter; PEFT inverts the same function to load it."""
        return super()._remove_adapter_name_from_key(
            key.replace(f".adamix_modules.{adapter_name}.", ".adamix_modules."), adapter_name
        )

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Put a layer into the model; PEFT's own version also copies a `weight`, which not every head has."""
        setattr(parent, child_name, new_module)

    def _prepare_adapter_config(self, peft_config: AdaMixConfig, model_config: dict[str, Any]) -> AdaMixConfig:
        if peft_config.target_modules is None:
            sites = peft_config.sites or KINDS[peft_config.kind].sites
            targets = default_targets(sites, model_config.get("model_type", "?"))
            peft_config.target_modules, peft_config.fused = targets.target_modules, targets.fused
        return peft_config

    def _create_and_replace(
        self,
        peft_config: AdaMixConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, AdaMixLayer):
            target.add(adapter_name, peft_config, current_key)
            return
        try:
            layer = AdaMixLayer(target, adapter_name, peft_config, current_key)
        except TypeError as error:
            raise TypeError(f"{current_key}: {error}") from error
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


PEFT_TYPE_TO_CONFIG_MAPPING[AdaMixType.ADAMIX] = AdaMixConfig
PEFT_TYPE_TO_TUNER_MAPPING[AdaMixType.ADAMIX] = AdaMixModel
PEFT_TYPE_TO_PREFIX_MAPPING[AdaMixType.ADAMIX] = AdaMixModel.prefix
