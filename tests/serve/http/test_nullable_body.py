"""Null in the bodies of classifiers: the answer is that of a body without the field."""

from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from serve.classification.classifier import Classifier
from serve.http.nullable_body import NullableBody
from serve.http.rerank import RerankRequest
from serve.http.tei.predict import PredictRequest
from serve.http.vllm.classify import ClassifyRequest
from serve.http.vllm.tokenize import TokenizeRequest
from tests.serve.conftest import live_server


class Greeting(NullableBody):
    name: str
    times: int = 1


def test_a_field_that_is_null_is_at_its_default() -> None:
    assert Greeting.from_json(b'{"name": "a", "times": null, "colour": null}') == Greeting(name="a")
    with pytest.raises(ValidationError, match="Field required"):
        Greeting.from_json(b'{"name": null}')
    with pytest.raises(ValidationError, match="colour"):
        Greeting.from_json(b'{"name": "a", "colour": 0}')


ROUTES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/predict": (PredictRequest, {"inputs": "good", "adapter": "tone"}),
    "/classify": (ClassifyRequest, {"input": "good", "model": "tone"}),
    "/rerank": (RerankRequest, {"query": "good", "texts": ["bad", "good"], "adapter": "match"}),
    "/tokenize": (TokenizeRequest, {"prompt": "good"}),
}


def test_bodies_with_all_their_other_fields_null_are_answered(mixed: Classifier) -> None:
    with live_server(mixed) as client:
        for path, (body, asked) in ROUTES.items():
            nulls = dict.fromkeys(set(body.model_fields) - set(asked))
            plain, found = (_without_time(client.post(path, json=one)) for one in (asked, {**asked, **nulls}))
            assert found == plain, path


def _without_time(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    answer = response.json()
    return {**answer, "id": "", "created": 0} if isinstance(answer, dict) else answer
