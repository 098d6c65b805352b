"""Carry out a recipe: read the data, train, keep the best checkpoint, measure it."""

import json
import logging
from collections.abc import Callable
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

from adamix_train.arguments import training_arguments
from adamix_train.base import base_folder, base_sha256, config_sha256, load_base, load_config, load_tokenizer
from adamix_train.checkpoint import Card
from adamix_train.curve import draw_curve
from adamix_train.embeddings import check_embeddings, positions
from adamix_train.errors import BaseError, RecipeError, TrainingError
from adamix_train.folder import begin, check_new, check_same, resume_point
from adamix_train.interruption import Interruption
from adamix_train.methods import make_trained
from adamix_train.metrics.table import METRICS
from adamix_train.objectives import Objective, objective_of
from adamix_train.processes import is_first_process
from adamix_train.progress import ProgressBar
from adamix_train.recipe import Recipe
from adamix_train.tasks.encoding import Encoding
from adamix_train.tasks.splits import Splits, read_splits, task_of
from adamix_train.tasks.table import Task
from adamix_train.trainer import AdaMixTrainer
from adamix_train.weighing import WEIGHINGS
from adamix_train.writing import Prompt, judge, make_prompts, store, write

logger = logging.getLogger(__name__)


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


def _by_length(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort what is evaluated, so that batches need little padding; no metric depends on the order."""
    return sorted(rows, key=lambda row: len(row["input_ids"]))


def _metrics(task: Task, prediction: EvalPrediction) -> dict[str, float]:
    return {name: METRICS[name](prediction.predictions, prediction.label_ids) for name in task.metrics}


def _measured(
    recipe: Recipe, objective: Objective, splits: Splits, encoding: Encoding, config: PretrainedConfig
) -> Callable[[AdaMixTrainer, Task], None]:
    """Prepare the last measurement, so that what is wrong with it shows before training; return what carries it out.

    A classifier is measured on the test data, if there is any; a model that writes writes on the validation data
    otherwise.
    """
    if not objective.writes:
        rows = _by_length(objective.encode(splits.test, encoding))
        return lambda trainer, task: _measure_logits(trainer, rows)
    prompts = make_prompts(splits.test or splits.validation, encoding, encoder_decoder=config.is_encoder_decoder)
    longest = 0 if config.is_encoder_decoder else max(len(prompt.ids) for prompt in prompts)
    if longest + recipe.max_new_tokens > positions(config):
        raise RecipeError(
            f"max_new_tokens is {recipe.max_new_tokens}, the longest prompt has {longest} tokens, and this base has "
            f"{positions(config)} positions: lower max_new_tokens or max_length"
        )
    prefix = "test" if splits.test else "eval"
    return lambda trainer, task: _measure_texts(trainer, recipe, task, prompts, prefix)


def _measure_logits(trainer: AdaMixTrainer, rows: list[dict[str, Any]]) -> None:
    if rows:
        trainer.evaluate(rows, metric_key_prefix="test")


def _measure_texts(trainer: AdaMixTrainer, recipe: Recipe, task: Task, prompts: list[Prompt], prefix: str) -> None:
    if not trainer.is_world_process_zero():
        return
    written = write(
        trainer.accelerator.unwrap_model(trainer.model).eval(),
        prompts,
        trainer.processing_class,
        batch_size=recipe.eval_batch_size,
        num_beams=recipe.num_beams,
        length_penalty=recipe.length_penalty,
        no_repeat_ngram_size=recipe.no_repeat_ngram_size,
        max_new_tokens=recipe.max_new_tokens,
    )
    store(written, Path(recipe.out) / "written.jsonl")
    found = {f"{prefix}_{name}": value for name, value in judge(written, task.metrics).items()}
    trainer.state.log_history.append({"step": trainer.state.global_step, **found})


def _store_results(
    out: Path, trainer: AdaMixTrainer, splits: Splits, encoding: Encoding, metric: str
) -> dict[str, Any]:
    parameters = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    results = {
        "checkpoint": str(out),
        **trainer.last_metrics(),
        "best_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "train_examples": len(splits.train),
        "validation_examples": len(splits.validation),
        "test_examples": len(splits.test),
        "truncated_examples": len(encoding.truncated),
        "labels": splits.labels,
        "trained_parameters": sum(weight.numel() for weight in parameters if weight.requires_grad),
        "all_parameters": sum(weight.numel() for weight in parameters),
        "history": trainer.state.log_history,
    }
    if encoding.truncated:
        logger.warning(
            "%d examples were longer than max_length %d (up to %d tokens) and were truncated",
            len(encoding.truncated),
            encoding.max_length,
            max(encoding.truncated),
        )
    if trainer.is_world_process_zero():
        draw_curve(trainer.state.log_history, metric, out / "curve.png")
        partial = out / "results.json.partial"
        partial.write_text(json.dumps(results, indent=2) + "\n")
        partial.replace(out / "results.json")
    return results
