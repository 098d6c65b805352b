import pytest
from pydantic import BaseModel

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
