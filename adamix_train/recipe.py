"""A training run as data: one YAML or TOML file, every field also a flag."""

import argparse
import difflib
import math
import tomllib
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from adamix_train.errors import RecipeError
from adamix_train.mixture.kinds import KINDS
from adamix_train.tasks.table import TASKS


def _field(help_: str, default: Any = MISSING, *, choices: Sequence[str] | None = None) -> Any:
    return field(default=default, metadata={"help": help_, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome of a run."""

    base: str = _field("base model: a folder, or a hub id (which is downloaded)")
    train_file: str = _field("training data: a .csv, .tsv or .jsonl file")
    out: str = _field("folder for the run; its checkpoint is what adamix-export reads")
    task: str = _field("how files are read and judged", "classification", choices=tuple(TASKS))
    validation_file: str | None = _field("validation data; without it a share of the training data is held out", None)
    validation_share: float = _field("share of the training data to hold out, of each label alike", 0.1)
    test_file: str | None = _field(
        "labelled data that is measured on once, at the end, and compared on by an export", None
    )
    text_column: str | None = _field("column of the text (default: the task's)", None)
    label_column: str | None = _field("column of the label (default: the task's)", None)
    train_limit: int | None = _field("use only this many training examples, drawn with the seed", None)
    max_length: int = _field("truncate inputs to this many tokens", 128)

    kind: str = _field("adapter kind", "houlsby", choices=tuple(KINDS))
    num_modules: int = _field("modules in each mixture; 1 trains a plain adapter", 4)
    r: int = _field("bottleneck width (houlsby) or rank (lora)", 16)
    lora_alpha: float = _field("LoRA scales its output by lora_alpha / r", 32.0)
    lora_dropout: float = _field("dropout on LoRA's input", 0.0)
    share: str = _field("projection that the modules of a mixture share", "up", choices=("up", "down", "none"))
    target_modules: str | None = _field("regular expression over module names (default: by model family)", None)
    consistency_weight: float = _field("weight of the consistency loss between two views; 0 runs one view", 1.0)

    epochs: float = _field("passes over the training data", 10.0)
    batch_size: int = _field("examples in a step on each device", 32)
    gradient_accumulation: int = _field("batches in an optimizer step", 1)
    learning_rate: float = _field("peak learning rate; linear decay", 1e-3)
    warmup_ratio: float = _field("share of the steps in which the learning rate rises", 0.06)
    weight_decay: float = _field("AdamW's weight decay", 0.1)
    seed: int = _field("seed of the head, the modules, the routes, the order of the data and dropout", 0)
    report_to: str = _field("where Trainer reports: none, tensorboard, wandb, …", "none")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise RecipeError(f"{item.name} is {value}; it must be a finite number")
        for name in ("num_modules", "r", "batch_size", "gradient_accumulation", "max_length", "train_limit", "epochs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecipeError(f"{name} is {value}; it must be positive")
        for name in ("consistency_weight", "learning_rate", "weight_decay", "warmup_ratio", "seed"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.warmup_ratio >= 1:
            raise RecipeError(f"warmup_ratio is {self.warmup_ratio}; it is a share of the steps, below 1")
        if not 0 < self.validation_share < 1:
            raise RecipeError(f"validation_share is {self.validation_share}; it must be between 0 and 1")
        for item in fields(self):
            choices, value = item.metadata["choices"], getattr(self, item.name)
            if choices and value not in choices:
                raise RecipeError(f"{item.name} is {value!r}; known are {', '.join(choices)}")


FORMATS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}


def add_flags(parser: argparse._ArgumentGroup) -> None:
    """Give `parser` a flag for every field of a recipe."""
    for item in fields(Recipe):
        default = "required" if item.default is MISSING else f"default: {item.default}"
        parser.add_argument(
            "--" + item.name.replace("_", "-"),
            dest=item.name,
            type=_plain_type(item.name),
            choices=item.metadata["choices"],
            default=argparse.SUPPRESS,
            help=item.metadata["help"] + ("" if "default:" in item.metadata["help"] else f" ({default})"),
        )


def make_recipe(file: Path | None, flags: dict[str, Any]) -> Recipe:
    """Return the recipe in `file`, its fields overridden by `flags`."""
    values = {**(_read(file) if file else {}), **flags}
    known = [item.name for item in fields(Recipe)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            raise RecipeError(f"unknown field {name!r} in {file}" + (f"; did you mean {near[0]!r}?" if near else ""))
    missing = [item.name for item in fields(Recipe) if item.default is MISSING and item.name not in values]
    if missing:
        raise RecipeError(
            f"the recipe lacks {', '.join(missing)}: give a flag (--{missing[0].replace('_', '-')}) or a field"
        )
    return Recipe(**{name: _checked(name, value) for name, value in values.items()})


def _read(file: Path) -> dict[str, Any]:
    if file.suffix not in FORMATS:
        raise RecipeError(f"recipe {file} ends in {file.suffix or 'nothing'}; recipes end in {', '.join(FORMATS)}")
    try:
        values = FORMATS[file.suffix](file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read recipe {file}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe {file} is not valid {file.suffix[1:].upper()}: {reason}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {file} holds no fields")
    return values


def _checked(name: str, value: Any) -> Any:
    expected = _plain_type(name)
    if value is None or isinstance(value, bool):
        if value is None and type(None) in typing.get_args(typing.get_type_hints(Recipe)[name]):
            return None
        raise RecipeError(f"{name} is {value!r}; it takes a {expected.__name__}")
    try:
        converted = expected(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(f"{name} is {value!r}; it takes a {expected.__name__}") from error
    if expected is int and converted != float(value):
        raise RecipeError(f"{name} is {value!r}; it takes a whole number")
    return converted


def _plain_type(name: str) -> type:
    hint = typing.get_type_hints(Recipe)[name]
    return next((part for part in typing.get_args(hint) if part is not type(None)), hint)
