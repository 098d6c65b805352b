"""A model's address over a bank of classifiers and a decoder, both computed by hand."""

import json
from pathlib import Path

import httpx
import pytest

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle
from tests.serve.conftest import live_app


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return Generator(write_decoder_bundle(tmp_path / "writers", random_decoder()), provider="cpu", threads=1)


def test_texts_are_classified_and_the_best_labels_returned(client: httpx.Client, classifier: Classifier) -> None:
    body = {"inputs": ["good", "the bill is late"], "parameters": {"top_k": 2}}
    found = client.post("/models/intent", json=body).json()
    for one, expected in zip(found, classifier(body["inputs"], adapter="intent"), strict=True):
        scores = dict(zip(expected.labels, expected.scores.tolist(), strict=True))
        assert [entry["label"] for entry in one] == sorted(scores, key=lambda label: -scores[label])[:2]
        assert all(entry["score"] == pytest.approx(scores[entry["label"]]) for entry in one)
    (logits,) = client.post("/models/tone", json={"inputs": "good", "parameters": {"function_to_apply": "none"}}).json()
    (expected,) = classifier("good", adapter=["tone"])
    assert sorted(one["score"] for one in logits) == pytest.approx(sorted(expected.logits.tolist()))


def test_bad_input_has_a_clear_error(client: httpx.Client) -> None:
    for path, body, status, message in (
        ("/models/mood", {"inputs": "good"}, 404, "there is no model 'mood'"),
        ("/models/tone", {"inputs": []}, 422, "inputs has 0 texts: send 1 to 64"),
        ("/models/tone", {"inputs": "good", "parameters": {"top_k": 0}}, 422, "parameters.top_k"),
        ("/models/tone", {"inputs": "good", "options": {}}, 422, "options: unknown field"),
        ("/", {"inputs": "good"}, 422, "name an adapter: tone, intent"),
    ):
        answer = client.post(path, json=body)
        assert (answer.status_code, message in answer.json()["error"]) == (status, True), answer.text


def test_a_text_is_continued_whole_or_in_pieces(generator: Generator) -> None:
    prompt = generator.prompt("good bad", "north")
    (expected,) = generator.generate([prompt], sampling=SamplingParams(max_new_tokens=6, ignore_eos=False))
    body = {"inputs": "good bad", "parameters": {"max_new_tokens": 6}}
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        assert client.post("/models/north", json=body).json() == [{"generated_text": expected.text}]
        named = {**body, "parameters": {**body["parameters"], "adapter_id": "north"}}  # type: ignore[dict-item]
        assert client.post("/", json=named).json() == [{"generated_text": expected.text}]
        with client.stream("POST", "/models/north", json={**body, "stream": True}) as response:
            events = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
        assert client.post("/models/north", json={**body, "stream": 3}).status_code == 422
        refused = client.post("/models/north", json={"inputs": "good", "parameters": {"max_new_tokens": 4000}})
        assert (refused.status_code, refused.json()["error_type"]) == (422, "validation")
    assert "".join(one["token"]["text"] for one in events) == events[-1]["generated_text"] == expected.text


def test_with_both_kinds_the_address_names_the_model(classifier: Classifier, generator: Generator) -> None:
    engine = CombinedEngine([AsyncClassifier(classifier), AsyncTextGenerator(generator)])
    with live_app(make_app(engine)) as client:
        assert client.post("/models/tone", json={"inputs": "good"}).json()[0][0].keys() == {"label", "score"}
        written = client.post("/models/north", json={"inputs": "good", "parameters": {"max_new_tokens": 2}})
        assert written.json()[0].keys() == {"generated_text"}
        answer = client.post("/", json={"inputs": "good"})
        assert (answer.status_code, "/models/NAME" in answer.json()["error"]) == (422, True)
