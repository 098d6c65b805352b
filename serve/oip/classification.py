"""Predictions of a classifier: a request of the engine from texts and parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from serve.engine import ClassificationEngine
from serve.errors import MAX_NAME, InputError, shortened
from serve.oip.models import PAIR, TEXT, Model, check_adapter
from serve.oip.parameters import ADAPTER
from serve.prediction import Prediction
from serve.requests import ClassificationRequest, Text

RAW_SCORES = "raw_scores"
OPTIONS: dict[str, type] = {"truncate": bool, "windows": bool, "overlap": int, RAW_SCORES: bool, ADAPTER: str}
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
        InputError: A parameter is unknown or of the wrong type, or names another adapter than the model or an input.
        The errors of `engine.classify`.
    """
    options = _checked(parameters)
    raw = bool(options.pop(RAW_SCORES, False))
    texts, pairs = inputs[TEXT], inputs.get(PAIR)
    rows: list[Text] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    adapters = _adapters(model, inputs, options.pop(ADAPTER, None))
    request = ClassificationRequest(texts=rows, adapters=adapters, max_windows=limit, **cast(Options, options))
    return await engine.classify(request), raw


def _adapters(model: Model, inputs: Mapping[str, Sequence[str]], named: str | None) -> list[str | None]:
    """Return the adapter of each row: that of an input, of a parameter, or the model; None is the only one."""
    if not model.is_bank:
        check_adapter(model, named)
        named = model.name
    elif named is not None and ADAPTER in inputs:
        raise InputError(f"{ADAPTER} is an input and a parameter: send one of them", ADAPTER)
    return list(inputs.get(ADAPTER, [named] * len(inputs[TEXT])))


def _checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        if name not in OPTIONS:
            raise InputError(f"unknown parameter {shortened(name, MAX_NAME)!r}; known are {', '.join(OPTIONS)}")
        if type(value) is not OPTIONS[name]:
            quoted = shortened(repr(value), MAX_NAME)
            raise InputError(f"parameter {name} is {quoted}: it must be of type {OPTIONS[name].__name__}")
    return dict(parameters)
