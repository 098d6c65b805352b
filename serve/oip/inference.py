"""One inference: from a model, texts and parameters to output tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from serve.engine import ClassificationEngine
from serve.errors import InputError, UnknownAdapter
from serve.oip.elements import Tensor
from serve.oip.models import ADAPTER, BANK, PAIR, TEXT, Model, version_of
from serve.oip.outputs import tensors_of
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, Text

Parameter = bool | int | float | str
RAW_SCORES = "raw_scores"
OPTIONS: dict[str, type] = {"truncate": bool, "windows": bool, "overlap": int, RAW_SCORES: bool}
"""Parameters of a request, and their types."""


class Options(TypedDict, total=False):
    """Parameters that the engine takes."""

    truncate: bool
    windows: bool
    overlap: int


@dataclass(frozen=True, kw_only=True)
class Inference:
    """The answer to a request."""

    version: str
    """That of the weights which answered; empty for the bank."""
    tensors: dict[str, Tensor]
    """The outputs that were asked for, by name."""
    predictions: Sequence[Prediction]


async def run_inference(
    engine: ClassificationEngine,
    model: Model,
    inputs: Mapping[str, list[str]],
    parameters: Mapping[str, Parameter],
    outputs: Sequence[str],
    *,
    version: str | None,
    limit: int,
) -> Inference:
    """Classify the rows of a request.

    Args:
        engine: The engine that has the model.
        model: One of `models_of(engine)`.
        inputs: Texts by the name of their tensor.
        parameters: Those of `OPTIONS`.
        outputs: Names of the tensors to return; none asks for all.
        version: The version of the weights that shall answer; None for any.
        limit: Most rows.

    Raises:
        UnknownAdapter: The weights were replaced meanwhile by another version.
        InputError: An input, a parameter or an output is not known, or has the wrong type or size.
        The errors of `engine.classify`.
    """
    options = _checked(parameters)
    raw = bool(options.pop(RAW_SCORES, False))
    if unknown := next((name for name in outputs if name not in model.outputs), None):
        raise InputError(f"model {model.name!r} has no output {unknown!r}; it has {', '.join(model.outputs)}")
    texts, adapters = _rows(model, inputs, limit=limit)
    predictions = await engine.classify(
        ClassificationRequest(texts=texts, adapters=adapters, max_windows=limit, **cast(Options, options))
    )
    answered = version_of(predictions[0].sha256) if model.versions else ""
    if version is not None and version != answered:
        raise UnknownAdapter(f"model {model.name!r} has no version {version!r} any more; there is {answered}")
    return Inference(
        version=answered,
        tensors=tensors_of(predictions, outputs or list(model.outputs), raw=raw),
        predictions=predictions,
    )


def _checked(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    for name, value in parameters.items():
        if name not in OPTIONS:
            raise InputError(f"unknown parameter {name!r}; known are {', '.join(OPTIONS)}")
        if type(value) is not OPTIONS[name]:
            raise InputError(f"parameter {name} is {value!r}: it must be of type {OPTIONS[name].__name__}")
    return dict(parameters)


def _rows(model: Model, inputs: Mapping[str, list[str]], *, limit: int) -> tuple[list[Text], list[str | None]]:
    """Return the text or pair of each row, and its adapter."""
    if unknown := next((name for name in inputs if name not in model.inputs), None):
        raise InputError(f"model {model.name!r} has no input {unknown!r}; it has {', '.join(model.inputs)}")
    if not inputs.get(TEXT):
        raise InputError(f"there is no text: send the input {TEXT!r}, of BYTES")
    texts = inputs[TEXT]
    if len(texts) > limit:
        raise InputError(f"input {TEXT!r} has {len(texts)} texts; at most {limit} go into one request")
    if wrong := next((name for name, values in inputs.items() if len(values) != len(texts)), None):
        raise InputError(f"input {wrong!r} has {len(inputs[wrong])} rows, and {TEXT!r} has {len(texts)}")
    pairs = inputs.get(PAIR)
    rows: list[Text] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    alone: list[str | None] = [None if model.name == BANK and not model.versions else model.name] * len(texts)
    return rows, list(inputs.get(ADAPTER, alone))
