"""What a step minimises, by kind of task: the model, its inputs, the rows that are compared, and the losses."""

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
    """How a kind of task is learned."""

    model: Any
    """transformers' automatic class."""
    settings: Callable[[list[str]], dict[str, Any]]
    """Returns what the model's configuration takes, from the names of the labels."""
    task_type: peft.TaskType
    encode: Callable[[Sequence[Example], Encoding], list[dict[str, Any]]]
    rows: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Takes the logits and labels of a batch as the model has them, and returns those that count: (rows, classes) and
    (rows,)."""
    loss: Callable[..., Tensor]
    """Of such logits and labels; a mean over rows. Takes `label_smoothing` where it is a cross-entropy."""
    consistency_weight: float
    """The original's; 0 where consistency means nothing."""
    collate: Callable[[PreTrainedTokenizerBase, PreTrainedModel], Callable[[list[Any]], Any]]
    writes: bool = False
    """Whether the model is judged by what it writes rather than by its logits."""


def _regression_settings(labels: list[str]) -> dict[str, Any]:
    return {"num_labels": 1, "problem_type": "regression"}


def _no_settings(labels: list[str]) -> dict[str, Any]:
    return {}


def _pad_inputs(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Callable[[list[Any]], Any]:
    return DataCollatorWithPadding(tokenizer)


def _pad_with_labels(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Callable[[list[Any]], Any]:
    """Pad labels as well, and give a decoder of its own the labels, shifted, as input."""
    return DataCollatorForSeq2Seq(tokenizer, model if model.config.is_encoder_decoder else None)


def _all(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logits, labels


def _targets(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (batch, sequence, vocabulary) at positions that have a label (batch, sequence)."""
    learned = labels != IGNORED
    return logits[learned], labels[learned]


def _next_tokens(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits at each position with the token at the next."""
    return _targets(logits[:, :-1], labels[:, 1:])


def _cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
    return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


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
        writes=True,
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
        writes=True,
    ),
}
"""By kind of task; a generation on an encoder-decoder is learned as sequence-to-sequence."""


def objective_of(kind: str, *, encoder_decoder: bool) -> Objective:
    """Return the objective of a kind of task on a base."""
    return OBJECTIVES["sequence-to-sequence" if kind == "generation" and encoder_decoder else kind]
