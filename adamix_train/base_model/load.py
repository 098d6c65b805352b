"""Load a base model, its configuration and its tokenizer."""

import logging
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

from adamix_train.base_model.safetensors_header import weight_files
from adamix_train.errors import BaseError, first_line

logger = logging.getLogger(__name__)
POOLER = "pooler."
"""Module of a body that bases without a head, such as masked language models, lack; it is trained with the head."""
VOCABULARIES = ("vocab.txt", "vocab.json", "*.model")
"""Files of which transformers makes a fast tokenizer where there is no tokenizer.json."""

CONVERT = (
    "; it has no tokenizer.json: pip install sentencepiece protobuf tiktoken, or make it where these are, with "
    "AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}') of transformers"
)


@dataclass(frozen=True)
class Base:
    """A base loaded in fp32."""

    model: PreTrainedModel
    new_modules: list[str]
    """Names of modules whose weights the folder lacks and that were initialised: the head, and a body's pooler."""


def load_base(folder: Path, model_class: Any, **settings: Any) -> Base:
    """Load the base in fp32 as a `model_class`; a head without stored weights is initialised at random.

    Raises:
        BaseError: the folder does not load, or lacks weights of the body, which would be random, frozen and unsaved.
    """
    weight_files(folder)  # which refuses an index that leads out of the folder
    try:
        model, report = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes="num_labels" in settings,
            **settings,
        )
    except Exception as error:  # transformers and safetensors raise any type on a damaged folder
        raise BaseError(f"{folder} does not load with {model_class.__name__}: {first_line(error)}") from error
    body = model.base_model_prefix + "."
    pooler = body + POOLER
    other_size = sorted(name for name, *_ in report["mismatched_keys"])
    if wrong := [name for name in other_size if name.startswith(body)]:
        raise BaseError(
            f"{folder} has weights of another size than its config.json says, such as {wrong[0]}: use a whole base"
        )
    if missing := sorted(name for name in report["missing_keys"] if name.startswith(body) and pooler not in name):
        raise BaseError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}: they would be "
            "random, frozen, and in no checkpoint; use a base that has them"
        )
    if other_size:
        logger.info("the head of %s is for other labels; a new one is trained instead", folder)
    new = [*report["missing_keys"], *other_size]
    return Base(model, sorted({pooler[:-1] if name.startswith(pooler) else name.partition(".")[0] for name in new}))


def load_classifier(folder: Path, labels: list[str]) -> PreTrainedModel:
    """Load the base with a new classification head for `labels`, drawn from torch's default generator."""
    return load_base(folder, AutoModelForSequenceClassification, **classifier_settings(labels)).model


def classifier_settings(labels: list[str]) -> dict[str, Any]:
    """Return the fields of a classifier's configuration for `labels`."""
    names = dict(enumerate(labels))
    return {
        "num_labels": len(labels),
        "id2label": names,
        "label2id": {label: index for index, label in names.items()},
        "problem_type": "single_label_classification",
    }


def load_config(folder: Path) -> PretrainedConfig:
    """Load a base's configuration; raise BaseError if it does not load, or names a file of weights of its own."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder)
    except Exception as error:  # as above
        raise BaseError(f"the configuration in {folder} does not load: {first_line(error)}") from error
    if other := getattr(config, "transformers_weights", None):
        raise BaseError(
            f"{folder}/config.json names {other} as its weights (transformers_weights), and model.safetensors is read: "
            "save the model again without that field"
        )
    return config


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a base's fast tokenizer, with padding on the right.

    The padding side is set because positions count from the left in encoders and causal models alike.

    Raises:
        BaseError: the folder has no tokenizer.json, which serving needs, and it cannot be made; or the tokenizer does
            what that file cannot express.
    """
    stored = (folder / "tokenizer.json").is_file()
    if not stored and not any(file for pattern in VOCABULARIES for file in folder.glob(pattern)):
        raise BaseError(f"{folder} has no tokenizer.json, the fast tokenizer's file, nor a vocabulary to make it of")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, padding_side="right")
        if not tokenizer.is_fast:
            raise ValueError(f"a {type(tokenizer).__name__} has no tokenizer.json")
    except Exception as error:  # as above
        advice = "" if stored else CONVERT.format(folder=folder)
        raise BaseError(f"the tokenizer in {folder} does not load: {first_line(error)}{advice}") from error
    if not stored:
        logger.info("%s has no tokenizer.json: it is made of the vocabulary, as transformers makes it", folder)
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raise BaseError if a tokenizer treats texts in a way that its tokenizer.json, which serving reads, cannot say."""
    if tokenizer.split_special_tokens:
        raise BaseError(
            f"the tokenizer in {where} splits special tokens that are in a text, which its tokenizer.json cannot say "
            "to serving: set split_special_tokens to false in its tokenizer_config.json"
        )
