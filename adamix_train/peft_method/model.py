"""The PEFT tuner of AdaMix; importing this module registers the method with PEFT."""

import warnings
from typing import Any, ClassVar

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from adamix_train.mixture.adapters import adapter_class
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route, set_route
from adamix_train.peft_method.config import AdaMixConfig, AdaMixType
from adamix_train.peft_method.layer import AdaMixLayer
from adamix_train.peft_method.target_modules import default_targets


class AdaMixModel(BaseTuner):
    """A base model with mixtures at its target modules.

    A forward pass in training mode takes `route=Route(...)`; without it, each pass counts as the next step.
    """

    prefix = "adamix_"
    tuner_layer_cls = AdaMixLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}
    warned = False
    """A pass without a route has been warned of."""
    is_compiled = False
    """The base model's forward pass is compiled: routes go to it as tensors, so that a new one needs no new code."""

    def forward(self, *args: Any, route: Route | None = None, **kwargs: Any) -> Any:
        """Run the base model; in training mode, set the route of every mixture first."""
        if self.training:
            if route is None:
                self._warn_of_routes()
            self.forwards = getattr(self, "forwards", -1) + 1
            route = route or Route(step=self.forwards)
            for name in self.active_adapters:
                device = next(self.model.parameters()).device if self.is_compiled else None
                set_route(self.mixtures(name), route, seed=self.peft_config[name].seed, device=device)
        return self.model(*args, **kwargs)

    def _warn_of_routes(self) -> None:
        if self.warned or all(self.peft_config[name].num_modules == 1 for name in self.active_adapters):
            return
        self.warned = True
        warnings.warn(
            "this training loop gives no route, so it has no consistency loss between two routes of a batch, a part of "
            "AdaMix: use adamix_train.AdaMixTrainer instead of transformers' Trainer, or pass route=Route(…)",
            stacklevel=3,
        )

    def mixtures(self, adapter_name: str) -> dict[str, MixtureLinear]:
        """Return site → mixture of one adapter; a site is the projection's name without the adapter's."""
        marker = f".adamix_modules.{adapter_name}."
        return {
            name.replace(marker, "."): module
            for name, module in self.model.named_modules()
            if isinstance(module, MixtureLinear) and marker in name
        }

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Return the checkpoint's key of a parameter; PEFT inverts this function to load a checkpoint."""
        return super()._remove_adapter_name_from_key(
            key.replace(f".adamix_modules.{adapter_name}.", ".adamix_modules."), adapter_name
        )

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Set the layer in the model; PEFT's version also copies a `weight`, which not every head has."""
        setattr(parent, child_name, new_module)

    def _prepare_adapter_config(self, peft_config: AdaMixConfig, model_config: dict[str, Any]) -> AdaMixConfig:
        if peft_config.target_modules is None:
            sites = peft_config.sites or adapter_class(peft_config.kind).sites
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
