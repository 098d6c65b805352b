from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from serve.classification.classifier import Classifier
from serve.errors import InputError
from serve.http.rerank import score_of
from serve.prediction import Prediction
from tests.serve.conftest import live_server

TEXTS = ["bad", "the bill is late", "good", "very good"]


@pytest.fixture
def pairs(mixed: Classifier) -> Iterator[httpx.Client]:
    with live_server(mixed) as client:
        yield client


def probabilities(mixed: Classifier) -> list[float]:
    """Return the probability of `same`, the second label, for each text beside the query."""
    return [float(one.scores[1]) for one in mixed([("good", text) for text in TEXTS], adapter="match")]


def test_texts_come_back_as_text_embeddings_inference_has_them(pairs: httpx.Client, mixed: Classifier) -> None:
    asked = {"query": "good", "texts": TEXTS, "adapter": "match", "return_text": True}
    response = pairs.post("/rerank", json=asked)
    found = response.json()
    assert response.headers["x-adapter"] == "match"
    scores = probabilities(mixed)
    order = sorted(range(4), key=lambda index: -scores[index])
    assert [(one["index"], one["text"]) for one in found] == [(index, TEXTS[index]) for index in order]
    assert [one["score"] for one in found] == pytest.approx(sorted(scores, reverse=True))


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_back_as_cohere_has_them(path: str, pairs: httpx.Client, mixed: Classifier) -> None:
    asked = {"query": "good", "documents": TEXTS, "model": "match", "top_n": 2, "return_documents": True}
    found = pairs.post(path, json=asked).json()
    scores = probabilities(mixed)
    best = max(range(4), key=lambda index: scores[index])
    assert found["model"] == "match"
    assert len(found["results"]) == 2
    tokens = sum(3 + len(f"good {text}".split()) for text in TEXTS)
    assert found["usage"] == {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    assert found["results"][0] == {
        "index": best,
        "relevance_score": pytest.approx(scores[best]),
        "document": {"text": TEXTS[best]},
    }


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_errors_of_the_versioned_paths_have_the_form_that_vllm_has(path: str, pairs: httpx.Client) -> None:
    refused = pairs.post(path, json={"query": "good", "documents": ["a"], "model": "nobody"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert pairs.post("/rerank", json={"query": "good"}).json()["error_type"] == "validation"


def test_raw_scores_are_logits(pairs: httpx.Client, mixed: Classifier) -> None:
    asked = {"query": "good", "texts": ["bad"], "adapter": "match", "raw_scores": True}
    (expected,) = mixed([("good", "bad")], adapter="match")
    assert pairs.post("/rerank", json=asked).json() == [{"index": 0, "score": pytest.approx(float(expected.logits[1]))}]


def test_pairs_of_three_labels_have_no_order() -> None:
    nli = Prediction(adapter="nli", sha256="0", labels=["no", "maybe", "yes"], logits=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="adapter nli has 3 labels"):
        score_of(nli, raw=False)


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"query": "a", "texts": ["b"], "adapter": "tone"}, 422, "adapter tone takes"),
        ({"query": "a", "texts": ["b"], "adapter": "nobody"}, 404, "nobody"),
        ({"query": "a", "adapter": "match"}, 422, "as texts, or as documents"),
        ({"query": "a", "texts": ["b"], "documents": ["b"]}, 422, "as texts, or as documents"),
        ({"query": "a", "texts": [], "adapter": "match"}, 422, "there are 0 texts: send 1 to 64"),
        ({"query": "a", "texts": ["b"] * 65, "adapter": "match"}, 422, "there are 65 texts: send 1 to 64"),
        ({"query": "a", "texts": ["b"], "adapter": "match", "model": "match"}, 422, "send one of them"),
        ({"query": "a", "texts": ["b"], "adapter": "match", "top_n": 0}, 422, "top_n"),
        ({"query": "a", "texts": ["b"], "adapter": "match", "return_documents": True}, 422, "goes with texts"),
        ({"query": "a", "documents": ["b"], "model": "match", "return_text": True}, 422, "goes with texts"),
        ({"query": "a", "texts": ["b"], "max_chunks_per_doc": 1}, 422, "max_chunks_per_doc"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    pairs: httpx.Client, asked: dict[str, Any], status: int, message: str
) -> None:
    response = pairs.post("/rerank", json=asked)
    assert response.status_code == status
    assert message in response.json()["error"]
