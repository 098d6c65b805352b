"""The layer that replaces an adapted projection."""

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adamix_train.mixture.adapters import make_adapter
from adamix_train.mixture.layers import features
from adamix_train.mixture.projection import collapse, mixture_projection
from adamix_train.mixture.shape import AdapterShape
from adamix_train.peft_method.config import AdaMixConfig
from adamix_train.peft_method.target_modules import fused_blocks


class AdaMixLayer(nn.Module, BaseTunerLayer):
    """A linear layer of the base and, by adapter name, the mixtures around it."""

    adapter_layer_names = ("adamix_modules",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: AdaMixConfig, name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adamix_modules = nn.ModuleDict()
        self.add(adapter_name, config, name)

    def add(self, adapter_name: str, config: AdaMixConfig, name: str) -> None:
        """Add a newly initialised mixture; `name` is the layer's name in the model, by which fused blocks are found."""
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
        """Return the base layer, with the collapsed adapters merged into it if `merge`; PEFT calls this method.

        Raises:
            ValueError: `safe_merge` found a weight that is not finite.
        """
        layer = self.get_base_layer()
        for name in (adapter_names or self.active_adapters) if merge else ():
            adapter = self.adamix_modules[name]
            collapse(adapter)
            if safe_merge and not all(torch.isfinite(weight).all() for weight in adapter.parameters()):
                raise ValueError(f"adapter {name!r} has weights that are not finite; it was not merged")
            layer = adapter.merge(layer)
        return layer
