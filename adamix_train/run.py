"""Carry out a recipe: read the data, train, keep the best checkpoint, measure it."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PrinterCallback,
    set_seed,
)

from adamix_train.arguments import training_arguments
from adamix_train.base import base_folder, base_sha256, config_sha256, load_base, load_config, load_tokenizer
from adamix_train.checkpoint import Card
from adamix_train.curve import draw_curve
from adamix_train.errors import RecipeError
from adamix_train.folder import check_new, check_same, resume_point
from adamix_train.interruption import Interruption
from adamix_train.methods import make_trained
from adamix_train.metrics.table import METRICS
from adamix_train.objectives import Objective, objective_of
from adamix_train.progress import ProgressBar
from adamix_train.recipe import Recipe
from adamix_train.tasks.encoding import Encoding
from adamix_train.tasks.splits import Splits, read_splits, task_of
from adamix_train.tasks.table import Task
from adamix_train.trainer import AdaMixTrainer
from adamix_train.weighing import WEIGHINGS
from adamix_train.writing import judge, store, write

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
    encoding = _encoding(recipe, task, splits, tokenizer, config)
    objective = objective_of(task.kind, encoder_decoder=config.is_encoder_decoder)
    metric = "loss" if objective.writes else task.metrics[0]
    weight = _consistency_weight(recipe, objective)
    arguments = training_arguments(recipe, objective, metric)
    card = _card(recipe, folder, task, splits)
    check_same(card, interrupted)
    set_seed(recipe.seed)
    base = load_base(folder, objective.model, **objective.settings(splits.labels))
    with Interruption() as interruption:
        trainer = AdaMixTrainer(
            model=make_trained(base, recipe, objective),
            args=arguments,
            train_dataset=objective.encode(splits.train, encoding),
            eval_dataset=_by_length(objective.encode(splits.validation, encoding)),
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
    _measure_test(trainer, recipe, task, splits, encoding)
    trainer.save_model(str(out))
    return _store_results(out, trainer, splits, encoding, metric)


def _encoding(
    recipe: Recipe, task: Task, splits: Splits, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> Encoding:
    least = tokenizer.num_special_tokens_to_add(pair=len(task.inputs) > 1) + 1 + (task.kind == "generation")
    most = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 1 << 30)
    if not least <= recipe.max_length <= most:
        raise RecipeError(f"max_length is {recipe.max_length}; this base takes {least} to {most} tokens")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
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
    return objective.consistency_weight if recipe.method == "adamix" else 0.0


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


def _measure_test(trainer: AdaMixTrainer, recipe: Recipe, task: Task, splits: Splits, encoding: Encoding) -> None:
    """Measure on the test data, if there is any, by logits or by what the model writes."""
    if not splits.test:
        return
    if not trainer.objective.writes:
        trainer.evaluate(_by_length(trainer.objective.encode(splits.test, encoding)), metric_key_prefix="test")
        return
    if not trainer.is_world_process_zero():
        return
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    written = write(
        model,
        splits.test,
        encoding,
        batch_size=recipe.eval_batch_size,
        num_beams=recipe.num_beams,
        length_penalty=recipe.length_penalty,
        no_repeat_ngram_size=recipe.no_repeat_ngram_size,
        max_new_tokens=recipe.max_new_tokens,
    )
    store(written, Path(recipe.out) / "written.jsonl")
    found = {f"test_{name}": value for name, value in judge(written, task.metrics).items()}
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
