"""Bodies of known parameters with values of all kinds: each is answered, or refused by its own fault."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve.oip.parameters import KNOWN
from tests.serve.http.openai.test_any_body import FITTING, VALUES

TEXT = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Rain?"]}
ROUTES = {"generate": {"text_input": "Rain?"}, "generate_stream": {"text_input": "Rain?"}, "infer": {"inputs": [TEXT]}}


@settings(deadline=None, max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_body_is_the_servers_fault(chat_client: TestClient, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(sorted(ROUTES)))
    parameters = {"max_tokens": 2}
    for name in data.draw(st.lists(st.sampled_from(KNOWN), max_size=4)):
        parameters[name] = data.draw(st.sampled_from([*FITTING.get(name, []), *VALUES, "{}", "[1]"]))
    response = chat_client.post(f"/v2/models/base/{route}", json={**ROUTES[route], "parameters": parameters})
    assert response.status_code in (200, 422), response.text
    assert response.status_code == 200 or "new_tokens" not in response.json()["error"]


@pytest.mark.parametrize("depth", [100, 330, 900, 30_000])
def test_deep_json_is_not_the_servers_fault(chat_client: TestClient, depth: int) -> None:
    """In a text a value may be deeper than Python recurses, or deep enough for its own checks to fail."""
    lists, objects = "[" * depth + "]" * depth, '{"allOf":[' * (depth // 2) + "{}" + "]}" * (depth // 2)
    for name in ("json_schema", "sampling_parameters", "logit_bias", "stop_token_ids", "stop"):
        for value in (lists, objects, "[" * depth):
            body = {**ROUTES["generate"], "max_tokens": 1, name: value}
            response = chat_client.post("/v2/models/base/generate", json=body)
            assert response.status_code in (200, 422), (name, response.text)
    body = {"inputs": [TEXT, {"name": "top_k", "datatype": "INT32", "shape": [1], "data": ["DEEP"]}]}
    response = chat_client.post("/v2/models/base/infer", content=json.dumps(body).replace('"DEEP"', lists))
    assert response.status_code in (400, 422), response.text
