"""The card of a checkpoint of another tool, made of facts that its user gives and of its base's configuration."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers
from optimum.exporters.tasks import TasksManager
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from adamix_export.checkpoint.checkpoint import Argument, Checkpoint, Importer, objective_name
from adamix_export.errors import ExportError
from adamix_train.artifacts.checkpoint import Card
from adamix_train.base_model.embeddings import UNLIMITED, max_positions
from adamix_train.base_model.fingerprint import base_sha256, config_sha256
from adamix_train.recipe.recipe import Recipe
from adamix_train.tasks.table import TASKS, Task

CLASSIFIER, CAUSAL, SEQ2SEQ = "SEQ_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM"
TASK_TYPES = {"text-classification": CLASSIFIER, "text-generation": CAUSAL, "text2text-generation": SEQ2SEQ}
"""Task by optimum's name → task type, by PEFT's."""
KINDS = {CLASSIFIER: ("classification", "regression"), CAUSAL: ("generation",), SEQ2SEQ: ("generation",)}
"""Task type → kinds of tasks that it can be, the likely one first; keys of `adamix_train.tasks.kinds.TASK_KINDS`."""
UNUSED = {"classification": ("prompt",), "regression": ("prompt", "labels"), "generation": ("labels",)}
"""Kind of a task → facts that it does not have, fields of `Facts`."""
UNNAMED = re.compile(r"LABEL_\d+")
"""Label that transformers makes up where nobody names one."""
MULTI_LABEL = "multi_label_classification"
PROMPT = "{input}"
"""Prompt of a generator unless the user gives one: the client's text as it is."""
MAX_NEW_TOKENS = 64
"""Most tokens that a comparison generates."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Everything that a checkpoint and its base state."""

    folder: Path
    base: Path
    config: PretrainedConfig
    """Configuration of the base."""
    named_labels: Sequence[str]
    """Labels that a configuration names; empty if none does."""
    tokenizer: PreTrainedTokenizerBase
    task_type: str | None
    """PEFT's name of the task type; None if the checkpoint does not say."""
    outputs: int | None
    """Number of logits of a classifier; None if it cannot be told from the stored tensors."""
    method: str
    """Method of a recipe, a name in `adamix_train.recipe.recipe.METHODS`."""


def make_checkpoint(origin: Origin, argument: Argument, importer: Importer, **settings: Any) -> Checkpoint:
    """Return a checkpoint with its card; `settings` are further fields of it. Raises the errors of `make_card`."""
    card = make_card(origin, argument)
    objective = objective_name(card.task, origin.base)
    return Checkpoint(argument.name, origin.folder, card, importer, origin.base, objective, **settings)


def make_card(origin: Origin, argument: Argument) -> Card:
    """Return the card; raise an `ExportError` with the flag to give if a fact is missing or does not fit."""
    task = _task(origin, argument)
    _require_kind(origin, argument, TASKS[task].kind)
    labels = list(_labels(origin, argument)) if TASKS[task].kind == "classification" else []
    max_length, max_new_tokens = _lengths(origin, argument, TASKS[task])
    recipe = Recipe(
        base=str(origin.base),
        out=str(origin.folder),
        task=task,
        method=origin.method,
        max_length=max_length,
        max_new_tokens=max_new_tokens,
        prompt=(argument.facts.prompt or PROMPT) if TASKS[task].kind == "generation" else None,
    )
    return Card(
        base=str(origin.base),
        base_sha256=base_sha256(origin.base),
        config_sha256=config_sha256(origin.base),
        data={},
        task=task,
        labels=labels,
        metric=TASKS[task].metrics[0],
        max_length=max_length,
        recipe=asdict(recipe),
    )


def configured_labels(*configs: PretrainedConfig | None) -> list[str]:
    """Return the labels, in the order of the logits, of the first configuration that names them."""
    for config in configs:
        labels = [label for _, label in sorted((config.id2label or {}).items())] if config is not None else []
        if labels and not all(UNNAMED.fullmatch(str(label)) for label in labels):
            return [str(label) for label in labels]
    return []


def configured_task_type(config: PretrainedConfig) -> str | None:
    """Return the task type of a configuration's architecture, by PEFT's name; None if it is not exported or unknown."""
    found = (architecture_task_type(name) for name in config.architectures or ())
    return next(filter(None, found), None)


def architecture_task_type(name: str) -> str | None:
    """Return the task type of a class of transformers, by PEFT's name; None if it is not exported or unknown."""
    try:
        return TASK_TYPES.get(TasksManager.infer_task_from_model(getattr(transformers, name)))
    except (AttributeError, ValueError):  # transformers or optimum does not know it
        return None


def _task(origin: Origin, argument: Argument) -> str:
    """Return the task, a key of `TASKS`."""
    given = argument.facts.task
    if given is not None and given not in TASKS:
        raise ExportError(f"--task {given} is unknown; known are {', '.join(TASKS)}")
    task_type = origin.task_type or configured_task_type(origin.config)
    if task_type is None:
        if given is None:
            raise ExportError(f"neither {origin.folder} nor its base says what it is for: say it with --task")
        return given
    if task_type not in KINDS:
        raise ExportError(f"{origin.folder} is for {task_type}, which is not exported; known are {', '.join(KINDS)}")
    if given is not None:
        if TASKS[given].kind not in KINDS[task_type]:
            raise ExportError(f"{origin.folder} is for {task_type}, and --task {given} is not: leave it out")
        return given
    if task_type != CLASSIFIER:
        return "generation"
    if origin.config.problem_type == MULTI_LABEL:
        raise ExportError(
            f"{origin.folder} gives a text any number of labels ({MULTI_LABEL}); a bundle gives it one: say with "
            "--task classification if that is meant"
        )
    return "regression" if origin.outputs == 1 or origin.config.problem_type == "regression" else "classification"


def _require_kind(origin: Origin, argument: Argument, kind: str) -> None:
    """Raise an `ExportError` for outputs or facts that a kind of task does not have."""
    if kind == "regression" and origin.outputs not in (None, 1):
        raise ExportError(
            f"{origin.folder} is a regression of {origin.outputs} numbers; one of a single number is exported"
        )
    if given := [f"--{name}" for name in UNUSED[kind] if getattr(argument.facts, name) is not None]:
        raise ExportError(
            f"{origin.folder} is for {kind}, which has no {' and no '.join(given)}: leave it out, or give it to "
            "another checkpoint by name, NAME=…"
        )


def _labels(origin: Origin, argument: Argument) -> Sequence[str]:
    task = argument.facts.task
    labels = argument.facts.labels or (task and TASKS[task].labels) or origin.named_labels
    flag = f"--labels {argument.name}=FIRST,SECOND,…"
    if not labels:
        count = f"its {origin.outputs} labels" if origin.outputs else "its labels"
        raise ExportError(
            f"nothing in {origin.folder} names {count}: name them, in the order of the logits, with {flag}"
        )
    if origin.outputs not in (None, len(labels)):
        raise ExportError(
            f"{origin.folder} has {origin.outputs} outputs, and there are {len(labels)} labels "
            f"({', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}): name as many, in the order of the logits, "
            f"with {flag}"
        )
    if len(set(labels)) < len(labels):
        raise ExportError(f"two labels of {origin.folder} have the same name: name them apart with {flag}")
    return labels


def _lengths(origin: Origin, argument: Argument, task: Task) -> tuple[int, int]:
    """Return the longest input in tokens, and the most tokens that a comparison generates after it."""
    positions = max_positions(origin.config)
    generates = task.kind == "generation"
    limit = min(origin.tokenizer.model_max_length, positions)
    given = argument.facts.max_length
    if given is not None and given > positions:
        raise ExportError(f"--max-length {given} is more than the {positions} positions of {origin.base}")
    least = origin.tokenizer.num_special_tokens_to_add(pair=len(task.inputs) > 1) + 1
    if given is not None and given < least:
        raise ExportError(f"--max-length {given} leaves no room for a text: {origin.base} takes {least} tokens or more")
    if given is None and limit >= UNLIMITED:
        raise ExportError(
            f"neither the tokenizer of {origin.folder} nor its base says how long an input may be: say it in tokens "
            "with --max-length"
        )
    if not generates or origin.config.is_encoder_decoder:
        return given or limit, MAX_NEW_TOKENS
    new = min(MAX_NEW_TOKENS, (positions if given else limit) // 2)
    return min(given or limit, positions - new), new
