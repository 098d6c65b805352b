"""Training objectives by kind of task: the model class, the inputs and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import peft
import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from adamix_train.base_model.load import classifier_settings
from adamix_train.data.encoding import IGNORED, Encoding, encode_causal, encode_labels, encode_scores, encode_seq2seq
from adamix_train.data.examples import Example


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The model class, inputs and loss of a kind of task."""

    model: Any
    """Automatic class of transformers, such as AutoModelForCausalLM."""
    settings: Callable[[list[str]], dict[str, Any]]
    """Takes the label names; returns fields of the model's configuration."""
    task_type: peft.TaskType
    encode: Callable[[Sequence[Example], Encoding], list[dict[str, Any]]]
    """Returns one unpadded model input an example, `labels` included."""
    rows: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Takes a batch's logits and labels in the model's shapes; returns those with a loss, as (rows, classes) and
    (rows,): sequences for classification and regression, target tokens for generation."""
    loss: Callable[..., Tensor]
    """Takes what `rows` returns, and `label_smoothing`; returns the mean over rows, a scalar."""
    consistency_weight: float
    """Weight in the original code; 0 if the objective has no consistency loss."""
    collate: Callable[[PreTrainedTokenizerBase, PreTrainedModel], Callable[[list[Any]], Any]]
    """Returns the function that pads model inputs to a batch."""
    is_generative: bool = False
    """The metrics are computed from generated text rather than from logits."""


def _regression_settings(labels: list[str]) -> dict[str, Any]:
    return {"num_labels": 1, "problem_type": "regression"}


def _no_settings(labels: list[str]) -> dict[str, Any]:
    return {}


def _pad_inputs(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Callable[[list[Any]], Any]:
    return DataCollatorWithPadding(tokenizer)


def _pad_with_labels(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Callable[[list[Any]], Any]:
    """Pad labels as well, and make shifted labels the input of an encoder-decoder's decoder."""
    return DataCollatorForSeq2Seq(tokenizer, model if model.config.is_encoder_decoder else None)


def _all(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logits, labels


def _targets(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (tokens, vocabulary) and (tokens,): logits (batch, sequence, vocabulary) at positions with a label."""
    learned = labels != IGNORED
    return logits[learned], labels[learned]


def _next_tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits at each position and the label of the next."""
    return _targets(logits[:, :-1], labels[:, 1:])


def _cross_entropy(
    logits: Tensor, labels: Tensor, *, label_smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean over rows; torch's own mean with weights divides by the weights of the batch instead."""
    if class_weights is None:
        return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    total = functional.cross_entropy(
        logits.float(), labels, class_weights.to(logits.device), label_smoothing=label_smoothing, reduction="sum"
    )
    return total / len(labels)


def _squared_error(scores: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    return functional.mse_loss(scores.float().squeeze(-1), labels.to(torch.float32))


OBJECTIVES: dict[str, Objective] = {
    "classification": Objective(
        model=AutoModelForSequenceClassification,
        settings=classifier_settings,
        collate=_pad_inputs,
        task_type=peft.TaskType.SEQ_CLS,
        encode=encode_labels,
        rows=_all,
        loss=_cross_entropy,
        consistency_weight=1.0,
    ),
    "regression": Objective(
        model=AutoModelForSequenceClassification,
        settings=_regression_settings,
        collate=_pad_inputs,
        task_type=peft.TaskType.SEQ_CLS,
        encode=encode_scores,
        rows=_all,
        loss=_squared_error,
        consistency_weight=0.0,
    ),
    "generation": Objective(
        model=AutoModelForCausalLM,
        settings=_no_settings,
        collate=_pad_with_labels,
        task_type=peft.TaskType.CAUSAL_LM,
        encode=encode_causal,
        rows=_next_tokens,
        loss=_cross_entropy,
        consistency_weight=100.0,
        is_generative=True,
    ),
    "sequence-to-sequence": Objective(
        model=AutoModelForSeq2SeqLM,
        settings=_no_settings,
        collate=_pad_with_labels,
        task_type=peft.TaskType.SEQ_2_SEQ_LM,
        encode=encode_seq2seq,
        rows=_targets,
        loss=_cross_entropy,
        consistency_weight=100.0,
        is_generative=True,
    ),
}
"""Kind of task → objective; generation with an encoder-decoder is `sequence-to-sequence`."""


def objective_of(kind: str, *, encoder_decoder: bool) -> Objective:
    """Return the objective of a kind of task for a base of the given architecture."""
    return OBJECTIVES["sequence-to-sequence" if kind == "generation" and encoder_decoder else kind]
