"""Bodies of known parameters with values of all kinds: each is answered, or refused by its own fault."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.oip.parameters import KNOWN
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.serve.http.openai.test_any_body import FITTING, VALUES

TEXT = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Rain?"]}
ROUTES = {"generate": {"text_input": "Rain?"}, "generate_stream": {"text_input": "Rain?"}, "infer": {"inputs": [TEXT]}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = write_byte_bundle(tmp_path_factory.mktemp("bytes") / "bundle", HERMES)
    generator = Generator(folder, provider="cpu", threads=1)
    with TestClient(make_app(AsyncTextGenerator(generator)), raise_server_exceptions=False) as client:
        yield client


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_body_is_the_servers_fault(client: TestClient, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(sorted(ROUTES)))
    parameters = {"max_tokens": 2}
    for name in data.draw(st.lists(st.sampled_from(KNOWN), max_size=4)):
        parameters[name] = data.draw(st.sampled_from([*FITTING.get(name, []), *VALUES, "{}", "[1]"]))
    response = client.post(f"/v2/models/base/{route}", json={**ROUTES[route], "parameters": parameters})
    assert response.status_code in (200, 422), response.text
    assert response.status_code == 200 or "new_tokens" not in response.json()["error"]
