"""Carry out a recipe: read the data, train the mixture, keep the best checkpoint."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)
from transformers.integrations import get_reporting_integration_callbacks

from adamix_train.base import base_folder, base_sha256, config_sha256, load_classifier, load_tokenizer
from adamix_train.checkpoint import Card, file_sha256, read_card
from adamix_train.errors import CheckpointError, RecipeError
from adamix_train.metrics import METRICS
from adamix_train.peft_method import AdaMixConfig
from adamix_train.progress import ProgressBar
from adamix_train.recipe import Recipe
from adamix_train.tasks.splits import Splits, encode, read_splits, task_of
from adamix_train.tasks.table import Task
from adamix_train.trainer import OPTIMIZER, AdaMixTrainer

STATE = (OPTIMIZER, "trainer_state.json")


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, Any]:
    """Train, write the best checkpoint to `recipe.out`, and return (and store as results.json) what came out."""
    out = Path(recipe.out)
    interrupted = _resume_point(recipe, out) if resume else None
    if not resume:
        _check_new(out)
    task = task_of(recipe)
    splits = read_splits(recipe, task)
    folder = base_folder(recipe.base)
    tokenizer = load_tokenizer(folder)
    _check_length(recipe, tokenizer)
    arguments = _training_arguments(recipe, metric=task.metric)
    card = Card(
        base=recipe.base,
        base_sha256=base_sha256(folder),
        config_sha256=config_sha256(folder),
        data={
            file: file_sha256(Path(file))
            for file in (recipe.train_file, recipe.validation_file, recipe.test_file)
            if file
        },
        task=recipe.task,
        labels=splits.labels,
        metric=task.metric,
        max_length=recipe.max_length,
        recipe=asdict(recipe),
    )
    if interrupted:
        _check_same(card, read_card(Path(interrupted)))
    set_seed(recipe.seed)
    model = _with_mixtures(load_classifier(folder, splits.labels), recipe)
    trainer = AdaMixTrainer(
        model=model,
        args=arguments,
        train_dataset=encode(splits.train, splits.labels, tokenizer, recipe.max_length),
        eval_dataset=encode(splits.validation, splits.labels, tokenizer, recipe.max_length),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda prediction: _metrics(task, prediction),
        consistency_weight=recipe.consistency_weight,
        card=card,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar(task.metric))
    trainer.train(resume_from_checkpoint=interrupted)
    trainer.evaluate()
    if splits.test:
        trainer.evaluate(encode(splits.test, splits.labels, tokenizer, recipe.max_length), metric_key_prefix="test")
    trainer.save_model(str(out))
    return _store_results(out, trainer, splits)


def adamix_config(recipe: Recipe) -> AdaMixConfig:
    """Return the mixture that a recipe describes."""
    return AdaMixConfig(
        task_type=peft.TaskType.SEQ_CLS,
        kind=recipe.kind,
        num_modules=recipe.num_modules,
        r=recipe.r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        share=recipe.share,
        seed=recipe.seed,
        target_modules=recipe.target_modules,
    )


def _with_mixtures(model: PreTrainedModel, recipe: Recipe) -> peft.PeftModel:
    try:
        return peft.get_peft_model(model, adamix_config(recipe))
    except re.error as error:
        raise RecipeError(f"target_modules is no regular expression: {error}") from error
    except (ValueError, TypeError) as error:
        raise RecipeError(str(error)) from error


def _check_length(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    least, most = tokenizer.num_special_tokens_to_add() + 1, tokenizer.model_max_length
    if not least <= recipe.max_length <= most:
        raise RecipeError(f"max_length is {recipe.max_length}; this base takes {least} to {most} tokens")


def _training_arguments(recipe: Recipe, *, metric: str) -> TrainingArguments:
    try:
        arguments = training_arguments(recipe, metric=metric)
        # Trainer looks these up only after the base is loaded.
        get_reporting_integration_callbacks(arguments.report_to)
        return arguments
    except ValueError as error:
        raise RecipeError(str(error)) from error


def training_arguments(recipe: Recipe, *, metric: str) -> TrainingArguments:
    """Return Trainer's arguments: AdamW, linear decay, one evaluation and one checkpoint an epoch, the best kept."""
    return TrainingArguments(
        output_dir=recipe.out,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=4 * recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
        greater_is_better=True,
        report_to=recipe.report_to,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _metrics(task: Task, prediction: EvalPrediction) -> dict[str, float]:
    return {task.metric: METRICS[task.metric](prediction.predictions, prediction.label_ids)}


def _resume_point(recipe: Recipe, out: Path) -> str:
    """Return the newest whole step checkpoint, which must be of the same recipe."""
    steps = [path for path in out.glob("checkpoint-*") if all((path / name).is_file() for name in STATE)]
    if not steps:
        raise CheckpointError(f"nothing to resume: {out} has no checkpoint-N folder; leave out --resume")
    newest = max(steps, key=lambda path: path.stat().st_mtime_ns)
    started = read_card(newest).recipe
    for name, value in asdict(recipe).items():
        if name not in ("report_to", "out") and started.get(name) != value:
            raise RecipeError(f"{name} is {value!r}, but the run in {out} was started with {started.get(name)!r}")
    return str(newest)


def _check_same(card: Card, started: Card) -> None:
    for name in ("labels", "base_sha256", "config_sha256", "data"):
        if getattr(card, name) != getattr(started, name):
            raise CheckpointError(f"{name} changed since the run was started: begin a new run, or put it back")


def _check_new(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file: give another --out")
    if out.exists() and any(out.iterdir()):
        raise RecipeError(f"{out} is not empty: give another --out, or --resume to go on with the run in it")


def _store_results(out: Path, trainer: AdaMixTrainer, splits: Splits) -> dict[str, Any]:
    trainable, total = trainer.model.get_nb_trainable_parameters()
    results = {
        "checkpoint": str(out),
        **trainer.last_metrics(),
        "best_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "train_examples": len(splits.train),
        "validation_examples": len(splits.validation),
        "test_examples": len(splits.test),
        "labels": splits.labels,
        "trained_parameters": trainable,
        "all_parameters": total,
        "history": trainer.state.log_history,
    }
    partial = out / "results.json.partial"
    partial.write_text(json.dumps(results, indent=2) + "\n")
    partial.replace(out / "results.json")
    return results
