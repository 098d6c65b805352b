"""Output tensors of classifiers and generators; a new one is an entry in a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.errors import InputError
from serve.oip.elements import BYTES, FP32, Tensor, tensor_of
from serve.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output tensor."""

    datatype: str
    shape: Callable[[int], list[int]]
    """Takes the number of labels; returns the shape with -1 for the rows."""
    tensor: Callable[[Sequence[Any], bool], Tensor]
    """Takes predictions of the same labels, and whether scores are logits; or generated texts."""
    by_label: bool = False
    """It has a value for each label, so that all rows must have the same."""
    regression: bool = False
    """A regression has it as well."""


def _label(predictions: Sequence[Prediction], raw: bool) -> Tensor:
    return tensor_of([prediction.label for prediction in predictions])


def _score(predictions: Sequence[Prediction], raw: bool) -> Tensor:
    return np.array([_values(one, raw)[int(one.logits.argmax())] for one in predictions], np.float32)


def _scores(predictions: Sequence[Prediction], raw: bool) -> Tensor:
    return np.stack([_values(prediction, raw) for prediction in predictions]).astype(np.float32)


def _labels(predictions: Sequence[Prediction], raw: bool) -> Tensor:
    return tensor_of(predictions[0].labels)


def _values(prediction: Prediction, raw: bool) -> Tensor:
    return prediction.logits if raw else prediction.scores


OUTPUTS = {
    "label": Output(datatype=BYTES, shape=lambda labels: [-1], tensor=_label),
    "score": Output(datatype=FP32, shape=lambda labels: [-1], tensor=_score, regression=True),
    "scores": Output(datatype=FP32, shape=lambda labels: [-1, labels], tensor=_scores, by_label=True),
    "labels": Output(datatype=BYTES, shape=lambda labels: [labels], tensor=_labels, by_label=True),
}
"""`label` is the most probable one and `score` its probability, or the value of a regression; `scores` are those of all
labels, in the order of `labels`."""


TEXT_OUTPUT, FINISH_REASON = "text_output", "finish_reason"
TEXT_OUTPUTS = {
    TEXT_OUTPUT: Output(
        datatype=BYTES, shape=lambda labels: [-1], tensor=lambda results, _: tensor_of([one.text for one in results])
    ),
    FINISH_REASON: Output(
        datatype=BYTES,
        shape=lambda labels: [-1],
        tensor=lambda results, _: tensor_of([str(one.finish_reason) for one in results]),
    ),
}
"""Outputs of a model that generates: each text, and `stop` or `length`."""


def outputs_of(labels: Sequence[str] | None, *, regression: bool) -> dict[str, Output]:
    """Return the outputs that a model has; `labels` is None where its rows may have different ones."""
    return {
        name: output
        for name, output in OUTPUTS.items()
        if (output.regression or not regression) and (labels is not None or not output.by_label)
    }


def tensors_of(predictions: Sequence[Prediction], names: Sequence[str], *, raw: bool) -> dict[str, Tensor]:
    """Return the tensors that are asked for.

    Raises:
        InputError: One has a value for each label, and the rows have different labels.
    """
    different = len({tuple(prediction.labels) for prediction in predictions}) > 1
    for name in names:
        if different and OUTPUTS[name].by_label:
            raise InputError(f"output {name!r} needs rows of the same labels: ask for label and score, or by adapter")
    return {name: OUTPUTS[name].tensor(predictions, raw) for name in names}
