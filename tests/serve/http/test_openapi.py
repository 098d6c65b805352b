from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http import error_responses
from serve.http.app import PROTOCOLS, make_app
from serve.http.error_responses import KINDS, STATUSES, ErrorResponder
from serve.http.openapi import complete_document, request_body
from serve.http.protocol import ErrorKind
from tests.fixtures.toy_engine import ToyEngine


class Greeting(BaseModel):
    """A body of two fields, one of which is optional."""

    name: str
    times: int = 1


def test_a_body_is_json_of_its_model_in_every_document() -> None:
    router = APIRouter()

    @router.post("/greet", openapi_extra=request_body(Greeting))
    @router.post("/wave", openapi_extra=request_body(Greeting, required=False))
    async def greet() -> None: ...

    for _ in range(2):  # of two applications that share a router
        app = FastAPI()
        app.include_router(router)
        complete_document(app, [router], ErrorResponder(PROTOCOLS.values()))
        paths = app.openapi()["paths"]
        for path, required in (("/greet", True), ("/wave", False)):
            body = paths[path]["post"]["requestBody"]
            assert body["required"] is required
            (kind,) = body["content"]
            assert kind == "application/json"
            schema = body["content"][kind]["schema"]
            assert schema["required"] == ["name"]
            assert {name: field["type"] for name, field in schema["properties"].items()} == {
                "name": "string",
                "times": "integer",
            }


def test_no_schema_is_made_before_a_document_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(Greeting, "model_json_schema", lambda **options: made.append("schema") or {})
    router = APIRouter()

    @router.post("/greet", openapi_extra=request_body(Greeting))
    async def greet() -> None: ...

    app = FastAPI()
    app.include_router(router)
    complete_document(app, [router], ErrorResponder(PROTOCOLS.values()))
    assert not made
    app.openapi()
    assert made == ["schema"]


@pytest.mark.parametrize(("field", "kind"), [("max_tokens", "integer"), ("temperature", "number")])
def test_the_document_describes_a_body_that_the_route_reads_itself(field: str, kind: str) -> None:
    route = make_app(ToyEngine()).openapi()["paths"]["/v1/completions"]["post"]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["prompt"]
    described = schema["properties"][field]
    assert kind in [one.get("type") for one in described.get("anyOf", [described])]


def references(part: Any) -> Iterator[str]:
    """All references of a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for one in part.values():
            yield from references(one)
    elif isinstance(part, list):
        for one in part:
            yield from references(one)


def test_every_reference_of_the_document_leads_to_a_component(classifier: Classifier) -> None:
    for engine in (ToyEngine(), AsyncClassifier(classifier)):
        app = make_app(engine)
        document = app.openapi()
        assert document == app.openapi()
        found = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
        assert found and found <= document["components"]["schemas"].keys()
    assert {"Message", "Tool", "StructuredOutputs"} <= make_app(ToyEngine()).openapi()["components"]["schemas"].keys()


def test_the_document_has_the_errors_of_every_route_in_the_form_of_its_protocol(classifier: Classifier) -> None:
    paths = make_app(AsyncClassifier(classifier)).openapi()["paths"]
    assert {"404", "413", "415", "500", "503"} <= paths["/v1/models/{name}"]["get"]["responses"].keys()
    for path in ("/predict", "/classify", "/v2/models/{name}/infer"):
        assert {"400", "404", "413", "415", "422", "429", "500", "503", "504"} <= paths[path]["post"][
            "responses"
        ].keys()
    error = paths["/predict"]["post"]["responses"]["429"]["content"]["application/json"]["schema"]["example"]
    assert error["error_type"] == "overloaded"
    openai = paths["/v1/load_lora_adapter"]["post"]["responses"]
    assert openai["404"]["content"]["application/json"]["schema"]["example"]["error"]["code"] == "model_not_found"
    assert "--adapter-dir" in openai["403"]["description"]


def test_every_status_of_an_error_is_told() -> None:
    constants = [one for one in vars(error_responses).values() if isinstance(one, ErrorKind)]
    assert {one.status for one in (*constants, *KINDS.values())} == STATUSES.keys()


TEXT = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}
PROMPT = {**TEXT, "name": "text_input"}
FEW = {"name": "max_tokens", "datatype": "INT32", "shape": [1], "data": [2]}
BINARY = {"parameters": {"binary_data_output": True}}
CLASSIFYING: dict[str, list[dict[str, Any]]] = {
    "/predict": [{"inputs": "good", "adapter": "tone"}],
    "/classify": [{"input": "good", "model": "tone"}],
    "/models/{name}": [{"inputs": "good"}],
    "rerank": [{"query": "good", "texts": ["bad"], "adapter": "match"}],
    "/invocations": [{"inputs": "good", "adapter": "tone"}, {"input": "good", "model": "tone"}],
    "/tokenize": [{"prompt": "good"}, {"inputs": "good"}],
    "/detokenize": [{"tokens": [4]}],
    "infer": [{"inputs": [TEXT]}, {"inputs": [TEXT], **BINARY}],
}
CONTINUED: dict[str, Any] = {"inputs": "a", "parameters": {"max_new_tokens": 2, "adapter_id": "north"}}
CHAT = [{"role": "user", "content": "a"}]
WRITING: dict[str, list[dict[str, Any]]] = {
    "completions": [{"prompt": "a", "model": "base", "max_tokens": 2, "stream": stream} for stream in (False, True)],
    "/models/{name}": [CONTINUED, {**CONTINUED, "stream": True}],
    "/": [CONTINUED, {**CONTINUED, "stream": True}],
    "/invocations": [{"prompt": "a", "model": "base", "max_tokens": 2, "stream": stream} for stream in (False, True)],
    "chat/completions": [
        {"messages": CHAT, "model": "base", "max_tokens": 2, "stream": stream} for stream in (False, True)
    ],
    "/tokenize": [{"prompt": "good"}, {"inputs": "good"}],
    "/detokenize": [{"tokens": [4]}],
    "infer": [{"inputs": [PROMPT, FEW]}, {"inputs": [PROMPT, FEW], **BINARY}],
    "generate": [{"text_input": "a", "max_tokens": 2}],
    "generate_stream": [{"text_input": "a", "max_tokens": 2}],
}
"""Bodies that routes answer, by the end of the path; the longest decides."""


def answers(
    client: TestClient, bodies: dict[str, list[dict[str, Any]]], names: dict[str, str]
) -> Iterator[httpx.Response]:
    """Yield the responses of each operation of the document to right bodies and wrong ones, checked against it."""
    app: Any = client.app
    for path, operations in app.openapi()["paths"].items():
        ends = [end for end in bodies if path.endswith(end)]
        right = bodies[max(ends, key=len)] if ends else [{}]
        url, other = path.format(**names), path.format(**{**names, "name": "nobody"})
        for method, operation in operations.items():
            found = [client.request(method, url, json=body) for body in right]
            if ends or method == "get":
                assert {one.status_code for one in found} == {200}, (path, found[0].text)
            found.append(client.request(method, url, content=b"nonsense"))
            found.append(client.request(method, url, json={"surely": "unknown"}))
            found.append(client.request(method, url, headers={"Content-Encoding": "gzip"}))
            found.append(client.request(method, other, json=right[0]))
            for one in found:
                told = operation["responses"][str(one.status_code)]["content"]
                assert one.headers["content-type"].partition(";")[0] in told, (method, path, one.text)
            yield from found


def test_every_status_and_content_type_of_an_answer_is_told(mixed: Classifier, chat_client: TestClient) -> None:
    version = mixed.cards["tone"].sha256[:12]
    with TestClient(make_app(AsyncClassifier(mixed))) as client:
        of_texts = list(answers(client, CLASSIFYING, {"name": "tone", "version": version}))
    version = chat_client.get("/v2/models/base").json()["versions"][0]
    written = list(answers(chat_client, WRITING, {"name": "base", "version": version}))
    kinds = {one.headers["content-type"].partition(";")[0] for one in (*of_texts, *written)}
    assert kinds == {"application/json", "text/plain", "text/event-stream", "application/octet-stream"}
    assert {one.status_code for one in of_texts} == {200, 400, 403, 404, 415, 422}


def test_routes_that_take_a_body_tell_it(classifier: Classifier) -> None:
    for engine in (ToyEngine(), AsyncClassifier(classifier)):
        paths = make_app(engine).openapi()["paths"]
        assert [path for path, one in paths.items() if "requestBody" not in one.get("post", {"requestBody": {}})] == []
