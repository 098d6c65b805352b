"""Measure a trained model and keep the results."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    PretrainedConfig,
)

from adamix_train.base_model.embeddings import positions
from adamix_train.data.encoding import Encoding
from adamix_train.data.splits import Splits
from adamix_train.errors import RecipeError
from adamix_train.evaluation.generate import Prompt, make_prompts, write
from adamix_train.evaluation.save_jsonl import store
from adamix_train.evaluation.score import judge
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.learning_curve import draw_curve
from adamix_train.tasks.table import Task
from adamix_train.training.objectives import Objective
from adamix_train.training.trainer import AdaMixTrainer

logger = logging.getLogger(__name__)


def _by_length(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort what is evaluated, so that batches need little padding; no metric depends on the order."""
    return sorted(rows, key=lambda row: len(row["input_ids"]))


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
