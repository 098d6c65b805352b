"""Refusing a bad body costs no more than accepting a good one, and its error is no longer than a line."""

import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from serve.errors import InputError
from serve.http.body import Body
from serve.http.error_responses import REASONS
from serve.http.openai.completion_messages import CompletionRequest
from serve.http.tei.predict import PredictRequest
from serve.sampling_params import MAX_BIASES

MANY = 100_000
PREDICT: dict[str, tuple[dict[str, Any], str]] = {
    "numbers for texts": ({"inputs": [1] * MANY}, "inputs.list[str].0: Input should be a valid string"),
    "lists of numbers": ({"inputs": [[1] * 1000] * 100}, "inputs.list[list[str]].0.0: Input should be a valid string"),
    "one number behind texts": (
        {"inputs": [*[["good"]] * MANY, [1]]},
        f"inputs.list[list[str]].{MANY}.0: Input should be a valid string",
    ),
    "lists in lists": ({"inputs": [[["good"]]] * MANY}, "Input should be a valid string"),
    "objects for texts": ({"inputs": [{}] * MANY}, "inputs.list[str].0: Input should be a valid string"),
    "numbers for adapters": ({"inputs": "good", "adapter": [1] * MANY}, "adapter.list[str].0: Input should be a valid"),
    "unknown fields": (
        {"inputs": "good", "adaptor": "tone", **{f"more{index}": 1 for index in range(MANY)}},
        "adaptor: unknown field, leave it out",
    ),
}
COMPLETIONS: dict[str, tuple[dict[str, Any], str]] = {
    "objects for prompts": ({"prompt": [{}] * MANY}, "prompt.list[str].0: Input should be a valid string"),
    "no numbers for tokens": (
        {"prompt": [["a"] * MANY]},
        "prompt.list[list[int]].0.0: Input should be a valid int",
    ),
    "numbers for stop texts": ({"prompt": "a", "stop": [1] * MANY}, "stop.list[str].0: Input should be a valid string"),
    "options that are none": (
        {"prompt": "a", "stream_options": {f"more{index}": "x" for index in range(MANY)}},
        "stream_options.more0: unknown field, leave it out",
    ),
    "biases that are none": (
        {"prompt": "a", "logit_bias": {f"token{index}": "x" for index in range(MAX_BIASES)}},
        "logit_bias.token0.[key]: Input should be a valid integer",
    ),
    "unknown fields, the first of them null": (
        {"prompt": "a", "unset": None, **{f"more{index}": 1 for index in range(MANY)}},
        "more0: unknown field, leave it out",
    ),
}
BODIES = [(PredictRequest, *one) for one in PREDICT.values()] + [
    (CompletionRequest, *one) for one in COMPLETIONS.values()
]


@pytest.mark.parametrize(("model", "body", "message"), BODIES, ids=[*PREDICT, *COMPLETIONS])
def test_validation_ends_with_the_first_error(model: type[Body], body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json(json.dumps(body))
    assert refused.value.error_count() <= 4
    reasons = [REASONS.get(one["type"], one["msg"]) for one in refused.value.errors()]
    assert any(message.split(": ")[-1] in reason for reason in reasons)


@pytest.mark.parametrize(("body", "message"), PREDICT.values(), ids=PREDICT)
def test_the_response_names_the_first_error(client: httpx.Client, body: dict[str, Any], message: str) -> None:
    response = client.post("/predict", json=body)
    assert (response.status_code, response.json()["error_type"]) == (422, "validation")
    assert message in response.json()["error"]
    assert len(response.content) < 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": "good", "x" * 1_000_000: 1}, 422, "x" * 64 + "…: unknown field, leave it out"),
        ({"inputs": "good", "truncate": "x" * 1_000_000}, 422, "truncate: Input should be a valid boolean"),
        (
            {"inputs": "good", "adapter": "x" * 1_000_000},
            404,
            f"no adapter {'x' * 64 + '…'!r} here; there are tone, in",
        ),
        ({"inputs": "good", "adapter": "tone", "windows": True, "overlap": 10**4000}, 422, "windows cannot overlap by"),
    ],
)
def test_a_response_does_not_repeat_the_request(
    client: httpx.Client, body: dict[str, Any], status: int, message: str
) -> None:
    response = client.post("/predict", json=body)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert len(response.json()["error"]) <= 2001


def test_deep_nesting_is_not_json(client: httpx.Client) -> None:
    response = client.post("/predict", content=b'{"inputs": ' + b"[" * 1_000_000)
    assert response.status_code == 400
    assert response.json()["error"].startswith("the body is not JSON: recursion limit exceeded at line 1")


def test_biases_are_counted_before_their_keys_become_numbers() -> None:
    """Integers that are equal modulo 2^61 - 1 share a hash in Python, so that a dict compares each with all others."""
    same = {str(index * (2**61 - 1)): 1 for index in range(1, MANY)}
    with pytest.raises(InputError, match=f"logit_bias names {MANY - 1} tokens: give at most {MAX_BIASES}"):
        CompletionRequest.model_validate_json(json.dumps({"prompt": "a", "logit_bias": same}))


def test_valid_bodies_are_read_as_before() -> None:
    for inputs in ("a", ["a", "b"], [["a"], ["b", "c"]], [], [[]]):
        assert PredictRequest.model_validate_json(json.dumps({"inputs": inputs})).inputs == inputs
    body = CompletionRequest.model_validate_json(
        '{"prompt": ["a", "b"], "stop": ["x"], "logit_bias": {"7": 1}, "stream_options": {"include_usage": true}}'
    )
    assert (body.prompt, body.stop, body.logit_bias) == (["a", "b"], ["x"], {7: 1.0})
    assert body.options.include_usage and not body.options.continuous_usage_stats


def test_a_byte_order_mark_is_skipped(client: httpx.Client) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"inputs": "good", "adapter": "tone"}).encode()
    assert client.post("/predict", content=body).status_code == 200
    assert client.post("/predict", content=b"\xff\xfe" + body).status_code == 400
