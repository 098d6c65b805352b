"""Prepare a run: everything that can fail before training does so here, before the run's folder is created."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainingArguments

from adamix_train.artifacts.checkpoint import Card
from adamix_train.base_model.architecture import is_encoder, why_not_exported
from adamix_train.base_model.embeddings import check_embeddings, max_positions
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.base_model.load import load_config, load_tokenizer
from adamix_train.data.encoding import Encoding, check_ends
from adamix_train.data.splits import LOSS
from adamix_train.errors import BaseError, RecipeError, TrainingError
from adamix_train.evaluation.generate import Prompt, make_prompts
from adamix_train.recipe.defaults import Situation, complete
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.inputs import RunInputs
from adamix_train.run.run_folder import check_same
from adamix_train.training.arguments import training_arguments
from adamix_train.training.class_weights import balanced_weights, with_class_weights
from adamix_train.training.consistency import resolve_consistency_weight
from adamix_train.training.device import training_device
from adamix_train.training.initial_weights import check_initial
from adamix_train.training.objectives import Objective, objective_of

logger = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
"""Unpadded model inputs, one an example."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """Everything that training and the final measurement need, except the model."""

    inputs: RunInputs
    tokenizer: PreTrainedTokenizerBase
    encoding: Encoding
    objective: Objective
    arguments: TrainingArguments
    consistency_weight: float
    metric: str
    """Metric that selects the best checkpoint: the recipe's, or else the task's first or a generation's loss."""
    train_rows: Rows
    validation_rows: Rows
    test_rows: Rows
    """Inputs of the final measurement; empty for a generation."""
    prompts: list[Prompt]
    """Generation: prompts of the final measurement, from the test data or else the validation data."""
    card: Card


def prepare(inputs: RunInputs) -> PreparedRun:
    """Load tokenizer and configuration, encode the data, and check that recipe, data and base fit together."""
    tokenizer, config = load_tokenizer(inputs.base), load_config(inputs.base)
    if inputs.step is None:  # a resumed run has chosen already
        inputs = replace(inputs, recipe=_complete(inputs, config))
    recipe, task, splits = inputs.recipe, inputs.task, inputs.splits
    objective = objective_of(task.kind, encoder_decoder=config.is_encoder_decoder)
    if recipe.class_weights:
        weights = balanced_weights([one.target for one in splits.train], splits.labels)
        objective = with_class_weights(objective, weights)
    _check_base(recipe, objective, tokenizer, config)
    _set_padding_token(recipe, tokenizer)
    check_embeddings(tokenizer, config, base=recipe.base, pairs=len(task.inputs) > 1)
    encoding = _encoding(inputs, tokenizer, config)
    train_rows = objective.encode(splits.train, encoding)
    validation_rows = objective.encode(splits.validation, encoding)
    generative = objective.is_generative
    test_rows = [] if generative else objective.encode(splits.test, encoding)
    if config.is_encoder_decoder and not generative:
        rows = [*train_rows, *validation_rows, *test_rows]
        check_ends(rows, [*splits.train, *splits.validation, *splits.test], tokenizer)
    prompts = _prompts(inputs, encoding, config) if generative else []
    metric = LOSS if generative or recipe.metric == LOSS else task.metrics[0]
    consistency_weight = resolve_consistency_weight(recipe, objective)
    arguments = training_arguments(recipe, objective, metric)
    _check_processes(recipe, arguments.world_size)
    card = _card(inputs)
    check_same(card, inputs.step)
    if recipe.init_from:
        check_initial(card, recipe)
    return PreparedRun(
        inputs=inputs,
        tokenizer=tokenizer,
        encoding=encoding,
        objective=objective,
        arguments=arguments,
        consistency_weight=consistency_weight,
        metric=metric,
        train_rows=train_rows,
        validation_rows=_by_length(validation_rows),
        test_rows=_by_length(test_rows),
        prompts=prompts,
        card=card,
    )


def _complete(inputs: RunInputs, config: PretrainedConfig) -> Recipe:
    """Return the recipe with the settings that it leaves open, and say which were chosen and why."""
    situation = Situation(
        rows=len(inputs.splits.train),
        width=config.get_text_config().hidden_size,
        task=inputs.task.kind,
        processes=PartialState().num_processes,
    )
    chosen = complete(inputs.recipe, situation)
    for name, reason in chosen.because.items():
        logger.info("%s %s, because %s", name, getattr(chosen.recipe, name), reason)
    return chosen.recipe


def _check_base(
    recipe: Recipe, objective: Objective, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> None:
    """Raise BaseError if the base cannot do the task, or cannot be exported once it has learned it."""
    if reason := why_not_exported(config, generates=objective.is_generative):
        raise BaseError(f"{recipe.base} {reason}: train another base")
    if not objective.is_generative:
        return
    if is_encoder(config):
        raise BaseError(
            f"{recipe.base} is a {config.model_type}, an encoder, which cannot generate text: use a decoder, or T5"
        )
    if tokenizer.eos_token_id is None:
        raise BaseError(
            f"the tokenizer of {recipe.base} has no end-of-sequence token, without which generation does not end"
        )


def _set_padding_token(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the end-of-sequence token pad if the tokenizer has no padding token."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise BaseError(
                f"the tokenizer of {recipe.base} has no padding token, and no end-of-sequence token instead"
            )
        tokenizer.pad_token = tokenizer.eos_token


def _encoding(inputs: RunInputs, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> Encoding:
    recipe, task = inputs.recipe, inputs.task
    least = tokenizer.num_special_tokens_to_add(pair=len(task.inputs) > 1) + 1 + (task.kind == "generation")
    most = min(tokenizer.model_max_length, max_positions(config))
    if not least <= recipe.max_length <= most:
        raise RecipeError(f"max_length is {recipe.max_length}; this base takes {least} to {most} tokens")
    return Encoding(
        tokenizer=tokenizer,
        max_length=recipe.max_length,
        labels=inputs.splits.labels,
        prompt=task.prompt,
        strict=recipe.strict,
    )


def _prompts(inputs: RunInputs, encoding: Encoding, config: PretrainedConfig) -> list[Prompt]:
    """Return the prompts of the final measurement; raise RecipeError if prompt and text exceed the base's positions."""
    splits, most = inputs.splits, inputs.recipe.max_new_tokens
    prompts = make_prompts(splits.test or splits.validation, encoding, encoder_decoder=config.is_encoder_decoder)
    longest = 0 if config.is_encoder_decoder else max(len(prompt.ids) for prompt in prompts)
    if longest + most > max_positions(config):
        raise RecipeError(
            f"max_new_tokens is {most}, the longest prompt has {longest} tokens, and this base has "
            f"{max_positions(config)} positions: lower max_new_tokens or max_length"
        )
    return prompts


def _by_length(rows: Rows) -> Rows:
    """Sort evaluation data so that batches need little padding; no metric depends on the order."""
    return sorted(rows, key=lambda row: len(row["input_ids"]))


def _check_processes(recipe: Recipe, processes: int) -> None:
    if processes == 1:
        return
    if recipe.collapse == "learned":
        raise TrainingError("learned module weights need a single process: choose another --collapse")
    if recipe.routing == "example" and not recipe.update_unselected:
        raise TrainingError(
            "with routing by example, a process does not know which modules the other processes used: choose --routing "
            "batch, or leave out --no-update-unselected"
        )


def _card(inputs: RunInputs) -> Card:
    recipe = inputs.recipe
    return Card(
        base=recipe.base,
        base_sha256=base_sha256(inputs.base),
        config_sha256=config_sha256(inputs.base),
        data=inputs.splits.source,
        task=recipe.task,
        labels=inputs.splits.labels,
        metric=inputs.task.metrics[0],
        max_length=recipe.max_length,
        recipe=asdict(recipe),
        device=training_device().kind,
    )
