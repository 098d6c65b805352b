"""AdaMix as a PEFT method, laid out like PEFT's own tuners: config, layer, model.

Importing `AdaMixConfig` from here makes `peft.get_peft_model(model, AdaMixConfig(...))` and `PeftModel.from_pretrained`
work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adamix_train.peft_method.config import AdaMixConfig
    from adamix_train.peft_method.layer import AdaMixLayer
    from adamix_train.peft_method.model import AdaMixModel

EXPORTS = {
    "AdaMixConfig": "adamix_train.peft_method.model",  # which registers the method with PEFT
    "AdaMixLayer": "adamix_train.peft_method.layer",
    "AdaMixModel": "adamix_train.peft_method.model",
}
"""Public name → its module, imported on first use: the table of target modules needs neither torch nor PEFT."""
__all__ = ["AdaMixConfig", "AdaMixLayer", "AdaMixModel"]


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(EXPORTS[name]), name)
