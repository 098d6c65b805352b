"""Train mixtures of adaptation modules (AdaMix) on Hugging Face models, as a PEFT method.

from adamix_train import AdaMixConfig, Recipe, train

model = peft.get_peft_model(model, AdaMixConfig(task_type="SEQ_CLS"))  # within your own training loop
train(Recipe(base="org/model", train_file="train.csv", out="runs/topic"))  # or from data to checkpoint

Importing the package makes `PeftModel.from_pretrained` read its checkpoints.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adamix_train.peft_registration import register

if TYPE_CHECKING:
    from adamix_train.peft_method import AdaMixConfig
    from adamix_train.recipe.recipe import Recipe
    from adamix_train.run.train import train
    from adamix_train.training.trainer import AdaMixTrainer

EXPORTS = {
    "AdaMixConfig": "adamix_train.peft_method",
    "AdaMixTrainer": "adamix_train.training.trainer",
    "Recipe": "adamix_train.recipe.recipe",
    "train": "adamix_train.run.train",
}
"""Public name → its module, imported on first use: importing the package imports neither torch nor transformers."""
__all__ = ["AdaMixConfig", "AdaMixTrainer", "Recipe", "train"]

register()


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(EXPORTS[name]), name)
