"""Bodies of known fields with values of all kinds: each is answered, or refused by its own fault."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve.http.openai.chat_messages import ChatRequest
from serve.http.openai.completion_messages import CompletionRequest
from tests.fixtures.chat_templates import WEATHER

USER = [{"role": "user", "content": "Rain?"}]
ROUTES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "/v1/completions": ([*CompletionRequest.model_fields], {"prompt": "Rain?"}),
    "/v1/chat/completions": ([*ChatRequest.model_fields], {"messages": USER}),
}
FITTING: dict[str, list[Any]] = {
    "prompt": ["ab", [5, 6], ["a", "b"], [[5], [6, 7]]],
    "messages": [USER, [*USER, {"role": "assistant", "content": "no"}, *USER]],
    "max_tokens": [0, 1, 3],
    "n": [1, 2],
    "num_beams": [2],
    "stream": [True],
    "logprobs": [0, 2, True],
    "prompt_logprobs": [1],
    "logprob_token_ids": [[3, 4]],
    "tools": [[WEATHER]],
    "tool_choice": ["auto", "required"],
    "structured_outputs": [{"regex": "[ab]+"}, {"choice": ["x", "yy"]}],
    "response_format": [{"type": "json_object"}],
}
VALUES = [None, 0, 1, -1, 2, 21, 300, 2**63, 1.5, 1e308, True, False, "", "a", "auto", "a" * 3000, "\u2028", [], [0]]
VALUES += [["a"], [""], [[1, 2], [3]], [[]], [256, 999], {}, {"4": 1.0}, {"type": "text"}, {"regex": "(("}, {"a": [1]}]


@settings(deadline=None, max_examples=4 * settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_body_is_the_servers_fault(chat_client: TestClient, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(ROUTES)))
    names, needed = ROUTES[path]
    body = {"model": data.draw(st.sampled_from(["base", "north"])), "max_tokens": 2, **needed}
    for name in data.draw(st.lists(st.sampled_from(names), max_size=4)):
        body[name] = data.draw(st.sampled_from([*FITTING.get(name, []), *VALUES]))
    response = chat_client.post(path, json=body)
    assert response.status_code in (200, 404, 422), response.text
    if response.status_code == 200 and body.get("stream"):
        assert response.text.endswith("data: [DONE]\n\n")
    elif response.status_code != 200:
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error" and error["message"]
