from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import make_app
from serve.http.openapi import request_body
from tests.fixtures.toy_engine import ToyEngine


class Greeting(BaseModel):
    """A body of two fields, one of which is optional."""

    name: str
    times: int = 1


def test_a_body_is_required_json_of_its_model() -> None:
    body = request_body(Greeting)["requestBody"]
    assert body["required"] is True
    (kind,) = body["content"]
    assert kind == "application/json"
    schema = body["content"][kind]["schema"]
    assert schema["required"] == ["name"]
    assert {name: field["type"] for name, field in schema["properties"].items()} == {
        "name": "string",
        "times": "integer",
    }


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
