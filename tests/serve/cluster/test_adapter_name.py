import json

import pytest

from serve.cluster.adapter_name import MAX_JSON_BYTES, adapter_of


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"inputs": "good", "adapter": "acme"}),
        ("/predict", {"inputs": [["good"], ["bad"]], "adapter": ["acme", "tone"]}),
        ("/v1/completions", {"model": "acme", "prompt": "good"}),
        ("/generate", {"inputs": "good", "parameters": {"adapter_id": "acme"}}),
        ("/v2/models/acme/infer", {"inputs": []}),
        ("/v2/models/acme", {}),
        ("/models/acme", {"inputs": "good"}),
        ("/nlp/v2/models/acme/generate_stream", {"text_input": "good"}),
    ],
)
def test_protocols_name_an_adapter_each_in_its_place(path: str, body: dict[str, object]) -> None:
    assert adapter_of(path, json.dumps(body).encode()) == "acme"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"adapter": 3}',
        b'{"adapter": [], "parameters": []}',
        b'{"inputs": "good"}',
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b'{"adapter": "acme", "inputs": "' + b"x" * MAX_JSON_BYTES + b'"}',
    ],
)
def test_other_bodies_name_none(body: bytes) -> None:
    assert adapter_of("/predict", body) == ""
