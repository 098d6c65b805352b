"""Parameters of a request for texts: those of completions, by the same names, and what Triton's clients call them."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from serve.errors import MAX_NAME, InputError, ServeError, first_line, in_client_words, shortened
from serve.sampling_params import (
    CLIENT_NAMES,
    OTHER_NAMES,
    STRING_LISTS,
    TOKEN_LISTS,
    SamplingParams,
    check_bias_count,
    from_client,
)

WITHOUT_OUTPUT = ("logprobs", "prompt_logprobs", "logprob_token_ids")
"""Sampling parameters that ask for what no output has."""
SAMPLING = {
    CLIENT_NAMES.get(one.name, one.name): one.name for one in fields(SamplingParams) if one.name not in WITHOUT_OUTPUT
}
"""Sampling parameters by a client's name: the engine's name."""
ADAPTER = "adapter"
"""Parameter that names the adapter."""
REQUEST: dict[str, type] = {
    "truncate": bool,
    "truncate_prompt_tokens": int,
    "priority": int,
    "cache_salt": str,
    ADAPTER: str,
}
"""Parameters of the request beside the sampling parameters, and their types."""
ALIASES = {"stop_words": "stop"}
"""Names in Triton's backends of parameters here."""
SAMPLING_PARAMETERS = "sampling_parameters"
"""Parameter that holds others, as an object in JSON."""
STREAM = "stream"
"""Parameter that says whether the text comes in pieces, where a protocol can send it so."""
NEUTRAL: dict[str, tuple[Any, ...]] = {"exclude_input_in_output": (True,), "best_of": (1,), STREAM: (False,)}
"""Parameters of which only these values are supported, since they change nothing."""
KNOWN = (*SAMPLING, *REQUEST, *ALIASES, SAMPLING_PARAMETERS, *NEUTRAL)
MAX_DIGITS = 12
"""Characters of a token id."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Parameters of a request, by the engine's names."""

    sampling: SamplingParams
    request: Mapping[str, Any]
    """Keyword arguments of a `GenerationRequest`."""
    adapter: str | None
    """The adapter that the request names."""


def generation_options(parameters: Mapping[str, Any]) -> GenerationOptions:
    """Return the parameters by the engine's names; one that is null counts as absent.

    Raises:
        InputError: One is unknown, comes twice, or has a value of another type or out of range.
    """
    given = _by_name(parameters)
    request: dict[str, Any] = {name: _of_request(name, given.pop(name)) for name in REQUEST if name in given}
    cut: int | None = request.pop("truncate_prompt_tokens", None)
    if cut == -1:
        request["truncate"] = True
    elif cut is not None:
        if cut < 1:
            raise InputError(f"truncate_prompt_tokens is {cut}: give 1 or more, or -1 for as many as fit")
        request["max_prompt_tokens"] = cut
    adapter = request.pop(ADAPTER, None)
    aliases = {right: name for name, right in ALIASES.items() if name in parameters}
    with client_words({**CLIENT_NAMES, **aliases}):
        sampling = from_client({SAMPLING[name]: _value(name, value) for name, value in given.items()})
    return GenerationOptions(sampling=sampling, request=request, adapter=adapter)


@contextmanager
def client_words(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors call the engine's fields as clients call them."""
    try:
        yield
    except ServeError as error:
        message, error.field = in_client_words(error, names)
        error.args = (message,)
        raise


def merged(parameters: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of two places of a request.

    Raises:
        InputError: One is in both.
    """
    for name in others:
        if name in parameters:
            raise InputError(f"parameter {shortened(name, MAX_NAME)} is given twice: send it once", name)
    return {**parameters, **others}


def _by_name(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `SAMPLING` and `REQUEST`, each once."""
    others = parameters.get(SAMPLING_PARAMETERS)
    inner = {} if others in (None, "") else _parsed(SAMPLING_PARAMETERS, others, dict)
    found: dict[str, Any] = {}
    for name, value in (*parameters.items(), *inner.items()):
        if value is None or (name == SAMPLING_PARAMETERS and name not in inner):
            continue
        if name in NEUTRAL:
            _check_neutral(name, value)
            continue
        right = ALIASES.get(name, name)
        if right not in SAMPLING and right not in REQUEST:
            raise InputError(_unknown(name))
        if right in found:
            raise InputError(f"parameter {right} is given twice: send it once")
        found[right] = value
    return found


def _check_neutral(name: str, value: object) -> None:
    if value not in NEUTRAL[name]:
        known = " or ".join(json.dumps(one) for one in NEUTRAL[name])
        raise InputError(f"parameter {name} is {shortened(repr(value), MAX_NAME)}: give {known}, or leave it out")


def _unknown(name: str) -> str:
    start = f"unknown parameter {shortened(name, MAX_NAME)!r}"
    if name in OTHER_NAMES:
        return f"{start}: it is called {OTHER_NAMES[name]} here"
    if name in WITHOUT_OUTPUT:
        return f"{start}: no output has log probabilities, ask /v1/completions for them"
    return f"{start}; known are {', '.join(KNOWN)}"


def _of_request(name: str, value: object) -> object:
    if type(value) is not REQUEST[name]:
        quoted = shortened(repr(value), MAX_NAME)
        raise InputError(f"parameter {name} is {quoted}: it must be of type {REQUEST[name].__name__}")
    return value


def _value(name: str, value: Any) -> Any:
    """Return a parameter as `SamplingParams` takes it."""
    convert = CONVERSIONS.get(name)
    return value if convert is None else convert(name, value)


def _strings(name: str, value: Any) -> Any:
    """Return a list of strings; one string is a list, and empty ones, which Triton's clients send for none, go."""
    listed = [value] if isinstance(value, str) else value
    return [text for text in listed if text != ""] if isinstance(listed, list) else listed


def _token_ids(name: str, value: Any) -> Any:
    return _parsed(name, value, list)


def _biases(name: str, value: Any) -> Any:
    """Return biases with token ids as numbers, which are texts in JSON."""
    parsed: dict[str, Any] = _parsed(name, value, dict)
    check_bias_count(parsed)
    for key in parsed:
        if not (key.isascii() and key.isdigit() and len(key) <= MAX_DIGITS):
            raise InputError(f"{name} has the key {shortened(key, MAX_NAME)!r}, which is not a token id")
    if not all(isinstance(bias, int | float) and not isinstance(bias, bool) for bias in parsed.values()):
        raise InputError(f"{name} has a value that is not a number from -100 to 100")
    return {int(key): bias for key, bias in parsed.items()}


def _schema(name: str, value: Any) -> Any:
    return _parsed(name, value, dict)


def _parsed(name: str, value: Any, kind: type) -> Any:
    """Return a list or an object, which may be a text of JSON, since gRPC's parameters are texts and numbers alone."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"parameter {name} is not JSON: {first_line(error)}") from error
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "an object"
        raise InputError(f"parameter {name} is {shortened(repr(value), MAX_NAME)}: give {expected}, or its JSON")
    return value


CONVERSIONS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(STRING_LISTS, _strings),
    **dict.fromkeys(TOKEN_LISTS, _token_ids),
    "logit_bias": _biases,
    "json_schema": _schema,
}
"""Conversions of the parameters whose values are not plain numbers and texts."""
