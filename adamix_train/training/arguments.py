"""The Trainer's arguments from a recipe."""

from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from adamix_train.errors import RecipeError, TrainingError, one_line
from adamix_train.recipe.recipe import Recipe
from adamix_train.training.objectives import Objective


def training_arguments(recipe: Recipe, objective: Objective, metric: str) -> TrainingArguments:
    """Return the Trainer's arguments: AdamW, linear decay, and the best checkpoint by `metric` kept with the newest.

    Among checkpoints with the same metric `AdaMixTrainer` keeps the one with the lowest validation loss, then the last.

    Raises:
        RecipeError: a value is impossible, or a reporter in `report_to` is unknown or not installed.
        TrainingError: the device does not support the precision.
    """
    check_precision(recipe.precision)
    reporters = [name.strip() for name in recipe.report_to.split(",")]
    try:
        # The Trainer itself looks these up only after the base is loaded.
        get_reporting_integration_callbacks([name for name in reporters if name != "none"])
        return TrainingArguments(
            output_dir=recipe.out,
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=recipe.eval_batch_size,
            gradient_accumulation_steps=recipe.gradient_accumulation,
            gradient_checkpointing=recipe.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if recipe.gradient_checkpointing else None,
            use_cpu=not torch.accelerator.is_available(),
            bf16=recipe.precision == "bf16",
            fp16=recipe.precision == "fp16",
            train_sampling_strategy="group_by_length" if recipe.length_bucketing else "random",
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup_ratio,
            weight_decay=recipe.weight_decay,
            seed=recipe.seed,
            logging_nan_inf_filter=False,
            save_total_limit=1,
            load_best_model_at_end=True,
            restore_callback_states_from_checkpoint=True,
            metric_for_best_model=metric,
            greater_is_better=metric != "loss",
            prediction_loss_only=objective.is_generative,
            report_to=reporters,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            ddp_find_unused_parameters=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            **_schedule(recipe),
        )
    except (ValueError, RuntimeError, ImportError) as error:  # ImportError: a reporter that is not installed
        raise RecipeError(one_line(error)) from error


def _schedule(recipe: Recipe) -> dict[str, Any]:
    """Return when to evaluate, save and log: after every epoch, or every `eval_steps` optimizer steps."""
    events = ("eval", "save", "logging")
    if recipe.eval_steps is None:
        return {f"{event}_strategy": "epoch" for event in events}
    return {f"{event}_strategy": "steps" for event in events} | {
        f"{event}_steps": recipe.eval_steps for event in events
    }


def check_precision(precision: str, cuda: Any = torch.cuda) -> None:
    """Raise TrainingError if the device does not support `precision`; `cuda` is torch's module for GPUs of NVIDIA.

    GPUs before Ampere emulate bf16, which is slower than fp32 and counts as not supported.
    """
    if precision == "fp16" and not cuda.is_available():
        raise TrainingError("precision fp16 needs a GPU: choose bf16 or fp32")
    if precision == "bf16" and cuda.is_available() and not cuda.is_bf16_supported(including_emulation=False):
        raise TrainingError(f"{cuda.get_device_name()} has no bf16: choose fp16 or fp32")
