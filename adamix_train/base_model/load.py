"""The frozen base model: where it is, what it is, and how it is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from adamix_train.errors import BaseError

PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
CHUNK = 1 << 24


@dataclass(frozen=True)
class Base:
    """A loaded base in fp32, and the names of its modules that are new: the head."""

    model: PreTrainedModel
    new_modules: list[str]


def load_base(folder: Path, model_class: Any, **settings: Any) -> Base:
    """Return the base as a `model_class`; weights that its body lacks are an error, those of a head are drawn."""
    try:
        model, report = model_class.from_pretrained(
            folder, use_safetensors=True, dtype="float32", output_loading_info=True, **settings
        )
    except Exception as error:  # transformers and safetensors raise what they like on a damaged folder
        raise BaseError(f"{folder} does not load with {model_class.__name__}: {_line(error)}") from error
    body = model.base_model_prefix + "."
    if missing := sorted(name for name in report["missing_keys"] if name.startswith(body)):
        raise BaseError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}: they would be "
            "random, frozen, and in no checkpoint; use a base that has them"
        )
    return Base(model, sorted({name.partition(".")[0] for name in report["missing_keys"]}))


def load_classifier(folder: Path, labels: list[str]) -> PreTrainedModel:
    """Return the base with a new classification head for `labels`, drawn from torch's default generator."""
    return load_base(folder, AutoModelForSequenceClassification, **classifier_settings(labels)).model


def classifier_settings(labels: list[str]) -> dict[str, Any]:
    """Return what a classifier's configuration takes."""
    names = dict(enumerate(labels))
    return {
        "num_labels": len(labels),
        "id2label": names,
        "label2id": {label: index for index, label in names.items()},
        "problem_type": "single_label_classification",
    }


def load_config(folder: Path) -> PretrainedConfig:
    """Return the configuration of a base."""
    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # as above
        raise BaseError(f"the configuration in {folder} does not load: {_line(error)}") from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the base's fast tokenizer; serving needs its tokenizer.json.

    It pads on the right, whatever the base says: an encoder's and a causal model's positions count from the left.
    """
    if not (folder / "tokenizer.json").is_file():
        raise BaseError(f"{folder} has no tokenizer.json, the fast tokenizer's file, which serving needs")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, padding_side="right")
    except Exception as error:  # as above
        raise BaseError(f"the tokenizer in {folder} does not load: {_line(error)}") from error
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raise an error if a tokenizer does to texts what its tokenizer.json, which serving reads, cannot say."""
    if tokenizer.split_special_tokens:
        raise BaseError(
            f"the tokenizer in {where} splits special tokens that are in a text, which its tokenizer.json cannot say "
            "to serving: set split_special_tokens to false in its tokenizer_config.json"
        )


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
