from typing import Any

import httpx
import numpy as np
import pytest

from serve.classification.classifier import Classifier


def test_texts_get_their_label_and_the_probabilities_of_all(client: httpx.Client, classifier: Classifier) -> None:
    response = client.post("/classify", json={"model": "intent", "input": ["the bill is late", "good"]})
    expected = classifier(["the bill is late", "good"], adapter="intent")
    answer = response.json()
    assert (answer["object"], answer["model"]) == ("list", "intent")
    assert [(one["index"], one["label"], one["num_classes"]) for one in answer["data"]] == [
        (index, one.label, 3) for index, one in enumerate(expected)
    ]
    assert np.array([one["probs"] for one in answer["data"]]) == pytest.approx(
        np.stack([one.scores for one in expected])
    )
    assert response.headers["x-adapter-sha256"] == expected[0].sha256


def test_one_text_comes_as_a_string_and_logits_on_request(client: httpx.Client, classifier: Classifier) -> None:
    (found,) = client.post("/classify", json={"model": "tone", "input": "good", "use_activation": False}).json()["data"]
    assert found["probs"] == pytest.approx(classifier("good", adapter="tone")[0].logits.tolist())


def test_long_texts_are_cut_where_that_is_asked_for(client: httpx.Client) -> None:
    asked = {"model": "tone", "input": "very " * 50}
    assert client.post("/classify", json=asked).status_code == 422
    assert client.post("/classify", json={**asked, "truncate_prompt_tokens": -1}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"model": "mood", "input": "a"}, 404, "mood"),
        ({"model": "tone", "input": []}, 422, "input has 0 texts: send 1 to 64"),
        ({"model": "tone", "input": ["a"] * 65}, 422, "input has 65 texts: send 1 to 64"),
        ({"model": "tone", "input": "a", "truncate_prompt_tokens": 5}, 422, "truncate_prompt_tokens is 5"),
        ({"model": "tone", "input": "a", "priority": 1}, 422, "priority: unknown field, leave it out"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    client: httpx.Client, asked: dict[str, Any], status: int, message: str
) -> None:
    response = client.post("/classify", json=asked)
    assert response.status_code == status
    assert message in response.json()["error"]
