"""Predictions of a classifier: a request of the engine from texts and parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from serve.engine import ClassificationEngine
from serve.errors import InputError
from serve.oip.models import ADAPTER, BANK, PAIR, TEXT, Model
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, Text

RAW_SCORES = "raw_scores"
OPTIONS: dict[str, type] = {"truncate": bool, "windows": bool, "overlap": int, RAW_SCORES: bool}
"""Parameters of a request, and their types."""


class Options(TypedDict, total=False):
    """Parameters that the engine takes."""

    truncate: bool
    windows: bool
    overlap: int


async def classify_texts(
    engine: ClassificationEngine,
    model: Model,
    inputs: Mapping[str, Sequence[str]],
    parameters: Mapping[str, Any],
    *,
    limit: int,
) -> tuple[list[Prediction], bool]:
    """Return the predictions of a request's rows, and whether their logits are asked for.

    Raises:
        InputError: A parameter is unknown or of the wrong type.
        The errors of `engine.classify`.
    """
    options = _checked(parameters)
    raw = bool(options.pop(RAW_SCORES, False))
    texts, pairs = inputs[TEXT], inputs.get(PAIR)
    rows: list[Text] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    alone: list[str | None] = [None if model.name == BANK and not model.versions else model.name] * len(texts)
    request = ClassificationRequest(
        texts=rows, adapters=list(inputs.get(ADAPTER, alone)), max_windows=limit, **cast(Options, options)
    )
    return await engine.classify(request), raw


def _checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        if name not in OPTIONS:
            raise InputError(f"unknown parameter {name!r}; known are {', '.join(OPTIONS)}")
        if type(value) is not OPTIONS[name]:
            raise InputError(f"parameter {name} is {value!r}: it must be of type {OPTIONS[name].__name__}")
    return dict(parameters)
