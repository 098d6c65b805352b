"""Carry out a recipe: read the data, train, keep the best checkpoint, measure it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PrinterCallback,
    set_seed,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from adamix_train.artifacts.checkpoint import Card
from adamix_train.base_model.embeddings import check_embeddings, positions
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.load import load_base, load_config, load_tokenizer
from adamix_train.base_model.locate import base_folder
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import Splits, read_splits, task_of
from adamix_train.errors import BaseError, RecipeError, TrainingError
from adamix_train.metrics.table import METRICS
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.interruption import Interruption
from adamix_train.run.processes import is_first_process
from adamix_train.run.progress import ProgressBar
from adamix_train.run.results import _by_length, _measured, _store_results
from adamix_train.run.run_folder import begin, check_new, check_same, resume_point
from adamix_train.tasks.table import Task
from adamix_train.training.arguments import training_arguments
from adamix_train.training.methods import make_trained
from adamix_train.training.module_weights import WEIGHINGS
from adamix_train.training.objectives import Objective, objective_of
from adamix_train.training.trainer import AdaMixTrainer


def train(recipe: Recipe, *, resume: bool = False) -> dict[str, Any]:
    """Train, write the best checkpoint to `recipe.out`, and return (and store as results.json) what came out."""
    out = Path(recipe.out)
    interrupted = resume_point(recipe, out) if resume else None
    if not resume:
        check_new(out)
    task = task_of(recipe)
    splits = read_splits(recipe, task)
    folder = base_folder(recipe.base)
    tokenizer, config = load_tokenizer(folder), load_config(folder)
    objective = objective_of(task.kind, encoder_decoder=config.is_encoder_decoder)
    _check_base(recipe, objective, tokenizer, config)
    check_embeddings(tokenizer, config, base=recipe.base, pairs=len(task.inputs) > 1)
    encoding = _encoding(recipe, task, splits, tokenizer, config)
    train_rows, validation_rows = (
        objective.encode(splits.train, encoding),
        objective.encode(splits.validation, encoding),
    )
    measured = _measured(recipe, objective, splits, encoding, config)
    metric = "loss" if objective.writes else task.metrics[0]
    weight = _consistency_weight(recipe, objective)
    arguments = training_arguments(recipe, objective, metric)
    _check_processes(recipe, arguments.world_size)
    card = _card(recipe, folder, task, splits)
    check_same(card, interrupted)
    set_seed(recipe.seed)
    base = load_base(folder, objective.model, **objective.settings(splits.labels))
    if base.model.config.pad_token_id is None:
        base.model.config.pad_token_id = tokenizer.pad_token_id
    model = make_trained(base, recipe, objective)
    PartialState().wait_for_everyone()  # before the folder is no longer new
    if is_first_process():
        begin(recipe, out)
    with Interruption() as interruption:
        trainer = AdaMixTrainer(
            model=model,
            args=arguments,
            train_dataset=train_rows,
            eval_dataset=_by_length(validation_rows),
            data_collator=objective.collate(tokenizer, base.model),
            processing_class=tokenizer,
            compute_metrics=None if objective.writes else lambda prediction: _metrics(task, prediction),
            callbacks=[interruption, *_early_stopping(recipe)],
            consistency_weight=weight,
            objective=objective,
            label_smoothing=recipe.label_smoothing,
            routing=recipe.routing,
            move_unselected=recipe.move_unselected,
            card=card,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ProgressBar(metric))
        trainer.train(resume_from_checkpoint=str(interrupted) if interrupted else None)
    WEIGHINGS[recipe.collapse](trainer, metric)
    trainer.evaluate()
    trainer.save_model(str(out))  # what was trained is kept, whatever comes of measuring it
    measured(trainer, task)
    trainer.write_card(out)
    return _store_results(out, trainer, splits, encoding, metric)


def _check_base(
    recipe: Recipe, objective: Objective, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> None:
    """Raise an error if the base cannot do what the task asks, and give its tokenizer a padding token."""
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if objective.writes and masked and not config.is_encoder_decoder:
        raise BaseError(f"{recipe.base} is a {config.model_type}, an encoder, which cannot write: use a decoder, or T5")
    if objective.writes and tokenizer.eos_token_id is None:
        raise BaseError(f"the tokenizer of {recipe.base} has no end-of-sequence token, which ends what is written")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise BaseError(
                f"the tokenizer of {recipe.base} has no padding token, and no end-of-sequence token instead"
            )
        tokenizer.pad_token = tokenizer.eos_token


def _check_processes(recipe: Recipe, processes: int) -> None:
    if processes == 1:
        return
    if recipe.collapse == "learned":
        raise TrainingError("learned module weights are learned in one process: choose another --collapse")
    if recipe.routing == "example" and not recipe.move_unselected:
        raise TrainingError(
            "several processes that route by example do not know which modules the others chose: route by batch, or "
            "let unselected modules move"
        )


def _encoding(
    recipe: Recipe, task: Task, splits: Splits, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> Encoding:
    least = tokenizer.num_special_tokens_to_add(pair=len(task.inputs) > 1) + 1 + (task.kind == "generation")
    most = min(tokenizer.model_max_length, positions(config))
    if not least <= recipe.max_length <= most:
        raise RecipeError(f"max_length is {recipe.max_length}; this base takes {least} to {most} tokens")
    return Encoding(
        tokenizer=tokenizer,
        max_length=recipe.max_length,
        labels=splits.labels,
        prompt=task.prompt,
        strict=recipe.strict,
    )


def _consistency_weight(recipe: Recipe, objective: Objective) -> float:
    if recipe.consistency_weight and not objective.consistency_weight:
        raise RecipeError(
            f"consistency_weight is {recipe.consistency_weight}, and a regression has no consistency loss: the softmax "
            "of its one output is 1 in both views; leave it out"
        )
    if recipe.consistency_weight is not None:
        return recipe.consistency_weight
    return objective.consistency_weight if recipe.method == "adamix" and recipe.num_modules > 1 else 0.0


def _card(recipe: Recipe, folder: Path, task: Task, splits: Splits) -> Card:
    return Card(
        base=recipe.base,
        base_sha256=base_sha256(folder),
        config_sha256=config_sha256(folder),
        data=splits.source,
        task=recipe.task,
        labels=splits.labels,
        metric=task.metrics[0],
        max_length=recipe.max_length,
        recipe=asdict(recipe),
    )


def _early_stopping(recipe: Recipe) -> list[EarlyStoppingCallback]:
    return [EarlyStoppingCallback(recipe.early_stopping)] if recipe.early_stopping else []


def _metrics(task: Task, prediction: EvalPrediction) -> dict[str, float]:
    return {name: METRICS[name](prediction.predictions, prediction.label_ids) for name in task.metrics}
