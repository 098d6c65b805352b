"""The data of a run: training, validation and test examples, and the model's inputs for them."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from adamix_train.errors import DataError
from adamix_train.recipe import Recipe
from adamix_train.tasks.examples import Example, hold_out, label_names, read_examples
from adamix_train.tasks.table import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What is trained on, selected on and measured on; the labels in their order."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    labels: list[str]


def task_of(recipe: Recipe) -> Task:
    """Return the recipe's task, with the columns that the recipe names."""
    task = TASKS[recipe.task]
    return replace(
        task,
        text_column=recipe.text_column or task.text_column,
        label_column=recipe.label_column or task.label_column,
    )


def read_splits(recipe: Recipe, task: Task) -> Splits:
    """Read the data of a recipe."""
    train = read_examples(Path(recipe.train_file), task)
    if recipe.validation_file:
        validation = read_examples(Path(recipe.validation_file), task)
    else:
        train, validation = hold_out(train, share=recipe.validation_share, seed=recipe.seed)
    random.Random(recipe.seed).shuffle(train)
    train = train[: recipe.train_limit]
    labels = label_names(train, validation, task)
    test = read_examples(Path(recipe.test_file), task) if recipe.test_file else []
    if strange := sorted({example.label for example in test} - set(labels)):
        raise DataError(f"{recipe.test_file} has labels that the training data lacks: {', '.join(strange[:5])}")
    return Splits(train=train, validation=validation, test=test, labels=labels)


def encode(
    examples: list[Example], labels: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, Any]]:
    """Return the model's inputs for each example, unpadded, with its label's index."""
    encoded = tokenizer([example.text for example in examples], truncation=True, max_length=max_length)
    return [
        {**{name: values[index] for name, values in encoded.items()}, "labels": labels.index(example.label)}
        for index, example in enumerate(examples)
    ]
