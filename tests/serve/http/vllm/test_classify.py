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


def test_usage_counts_the_tokens_that_the_adapter_reads(client: httpx.Client) -> None:
    asked = {"model": "tone", "input": ["the bill is late", "good"]}
    usage = client.post("/classify", json=asked).json()["usage"]
    special = 2
    expected = 4 + special + 1 + special
    assert usage == {"prompt_tokens": expected, "completion_tokens": 0, "total_tokens": expected}
    long = {"model": "tone", "input": "very " * 50, "truncate_prompt_tokens": -1}
    assert client.post("/classify", json=long).json()["usage"]["prompt_tokens"] == 8, "the adapter's own length"


@pytest.mark.parametrize("raw", [False, True])
def test_a_body_of_infinity_gets_infinitys_form(raw: bool, client: httpx.Client, classifier: Classifier) -> None:
    texts = ["the bill is late", "good"]
    answer = client.post("/classify", json={"model": "intent", "input": texts, "raw_scores": raw}).json()
    assert (answer["object"], answer["model"], answer["id"][:9]) == ("classify", "intent", "infinity-")
    assert answer["usage"]["total_tokens"] == 9
    for found, one in zip(answer["data"], classifier(texts, adapter="intent"), strict=True):
        values = dict(zip(one.labels, one.logits if raw else one.scores, strict=True))
        best_first = sorted(values, key=lambda label: -values[label])
        assert [(pair["label"], pair["score"]) for pair in found] == [
            (label, pytest.approx(float(values[label]))) for label in best_first
        ]


def test_fields_of_vllm_that_change_nothing_are_taken(client: httpx.Client) -> None:
    asked = {"model": "tone", "input": "good"}
    more = {
        "add_special_tokens": True,
        "priority": 0,
        "padding": "do_not_pad",
        "truncation_side": "right",
        "cache_salt": "a",
        "user": "b",
        "use_activation": True,
        "request_id": "seven",
    }
    plain, found = (client.post("/classify", json=one).json() for one in (asked, {**asked, **more}))
    assert (found["data"], found["usage"], found["id"]) == (plain["data"], plain["usage"], "classify-seven")


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"model": "mood", "input": "a"}, 404, "mood"),
        ({"model": "tone", "input": []}, 422, "input has 0 texts: send 1 to 64"),
        ({"model": "tone", "input": ["a"] * 65}, 422, "input has 65 texts: send 1 to 64"),
        ({"model": "tone", "input": "a", "truncate_prompt_tokens": 5}, 422, "truncate_prompt_tokens is 5"),
        ({"model": "tone", "input": "a", "truncate_prompt_tokens": 0}, 422, "truncate_prompt_tokens is 0"),
        ({"model": "tone", "input": "a", "priority": 1}, 422, "priority is 1, which is not supported: give 0"),
        ({"model": "tone", "input": "a", "add_special_tokens": False}, 422, "add_special_tokens is False"),
        ({"model": "tone", "input": "a", "padding": "max_length"}, 422, "padding is 'max_length'"),
        ({"model": "tone", "input": "a", "truncation_side": "left"}, 422, "truncation_side"),
        ({"model": "tone", "input": "a", "raw_scores": True, "use_activation": True}, 422, "send one of them"),
        ({"model": "tone", "input": [101, 102]}, 422, "input has token ids: classifiers here read texts"),
        ({"model": "tone", "input": [[101, 102]]}, 422, "input has token ids: classifiers here read texts"),
        ({"model": "tone", "messages": [{"role": "user", "content": "a"}]}, 422, "messages: classifiers here read no"),
        ({"model": "tone", "input": "a", "surely": 1}, 422, "surely: "),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    client: httpx.Client, asked: dict[str, Any], status: int, message: str
) -> None:
    response = client.post("/classify", json=asked)
    assert response.status_code == status
    assert message in response.json()["error"]
