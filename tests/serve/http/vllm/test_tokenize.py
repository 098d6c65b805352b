"""The routes against the bundle's own tokenizer."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer

from serve.bundle.tokenizer_config import readable_config
from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.combined_engine import CombinedEngine
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.http.app import make_app

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain in Oslo?"}]
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def tokenizer(classifier: Classifier) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(Path(classifier.bundle.folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("special", [True, False])
def test_a_prompt_gives_its_tokens_and_the_length_that_the_model_reads(
    special: bool, client: httpx.Client, tokenizer: Tokenizer, classifier: Classifier
) -> None:
    asked = {"model": "tone", "prompt": "the bill was late", "add_special_tokens": special, "return_token_strs": True}
    expected = tokenizer.encode("the bill was late", add_special_tokens=special)
    assert client.post("/tokenize", json=asked).json() == {
        "count": len(expected.ids),
        "max_model_len": classifier.cards["tone"].max_length,
        "tokens": expected.ids,
        "token_strs": expected.tokens,
    }


def test_inputs_give_each_token_with_its_place_in_the_text(client: httpx.Client, tokenizer: Tokenizer) -> None:
    texts = ["the bill was late", "good"]
    found = client.post("/tokenize", json={"inputs": texts}).json()
    assert [[token["id"] for token in tokens] for tokens in found] == [tokenizer.encode(text).ids for text in texts]
    for text, tokens in zip(texts, found, strict=True):
        own = [token for token in tokens if not token["special"]]
        assert [token["text"] for token in own] == text.split()
        assert [text[token["start"] : token["stop"]] for token in own] == text.split()
        assert {token["start"] for token in tokens if token["special"]} == {None}


def test_a_long_text_has_places_too(client: httpx.Client) -> None:
    text = "the bill was late " * 1500
    (tokens,) = client.post("/tokenize", json={"inputs": text}).json()
    assert [tokens[-2]["start"], tokens[-2]["stop"]] == [len(text) - 5, len(text) - 1]


def test_tokens_become_the_text_again(client: httpx.Client, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the bill was late").ids
    found = client.post("/detokenize", json={"model": "tone", "tokens": ids}).json()
    assert found == {"prompt": tokenizer.decode(ids, skip_special_tokens=False)}
    assert client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


def test_an_empty_text_has_special_tokens_alone(client: httpx.Client, tokenizer: Tokenizer) -> None:
    assert client.post("/tokenize", json={"prompt": ""}).json()["tokens"] == tokenizer.encode("").ids


def test_the_configuration_is_that_of_the_bundle(client: httpx.Client, classifier: Classifier) -> None:
    found = client.get("/tokenizer_info", params={"model": "tone"})
    assert (found.status_code, found.json()) == (200, readable_config(classifier.bundle))
    assert client.get("/tokenizer_info", params={"model": "mood"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "asked", "status", "message"),
    [
        ("/tokenize", {"model": "mood", "prompt": "a"}, 404, "there is no model 'mood' here"),
        ("/tokenize", {"model": "tone"}, 422, "send a text as prompt, a chat as messages, or texts as inputs"),
        ("/tokenize", {"prompt": "a", "inputs": "a"}, 422, "send a text as prompt, a chat as messages, or texts"),
        ("/tokenize", {"prompt": "a", "messages": CHAT}, 422, "send a text as prompt, a chat as messages, or texts"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": False}, 422, "add_generation_prompt goes with messages"),
        (
            "/tokenize",
            {"prompt": "a", "chat_template_kwargs": {"x": 1}},
            422,
            "chat_template_kwargs goes with messages",
        ),
        ("/tokenize", {"inputs": []}, 422, "inputs has 0 texts: send 1 to 64"),
        ("/tokenize", {"inputs": ["a"] * 65}, 422, "inputs has 65 texts: send 1 to 64"),
        ("/tokenize", {"prompt": "a" * 300_000}, 422, "the text has 300000 characters"),
        ("/tokenize", {"messages": []}, 422, "messages: List should have at least 1 item"),
        ("/tokenize", {"model": "tone", "messages": CHAT}, 422, "messages: classifiers read no chats, send a text"),
        ("/detokenize", {"tokens": [3, 999_999]}, 422, "there is no token 999999"),
        ("/detokenize", {"tokens": [-1]}, 422, "there is no token -1"),
        ("/detokenize", {"tokens": [2**32]}, 422, "there is no token 4294967296"),
        ("/detokenize", {"tokens": [2**70]}, 422, "there is no token 1180591620717411303424"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    path: str, client: httpx.Client, asked: dict[str, Any], status: int, message: str
) -> None:
    response = client.post(path, json=asked)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_half_a_character_is_refused(client: httpx.Client) -> None:
    response = client.post("/tokenize", content=b'{"prompt": "good \\ud83d"}')
    assert (response.status_code, "the body is not JSON" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "base", "messages": CHAT},
        {"model": "base", "messages": CHAT, "add_generation_prompt": False},
        {"model": "base", "messages": CHAT, "tools": TOOLS},
        {"model": "north", "messages": CHAT[1:]},
    ],
    ids=["template", "open", "tools", "prompt"],
)
def test_a_chat_has_the_tokens_that_a_chat_completion_reads(asked: dict[str, Any], chat_client: TestClient) -> None:
    whole = {**asked, "max_tokens": 0, "return_token_ids": True}
    completion = chat_client.post("/v1/chat/completions", json=whole).json()
    found = chat_client.post("/tokenize", json={**asked, "return_token_strs": True}).json()
    assert found["tokens"] == completion["prompt_token_ids"] and found["count"] == completion["usage"]["prompt_tokens"]
    assert len(found["token_strs"]) == found["count"]
    text = chat_client.post("/detokenize", json={"model": asked["model"], "tokens": found["tokens"]}).json()["prompt"]
    assert "Rain in Oslo?" in text and ("rain" in text) == ("tools" in asked)


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": None}, 422, "name an adapter"),
        ({"add_special_tokens": True}, 422, "add_special_tokens is True, which is not supported: give False"),
        ({"continue_final_message": True}, 422, "continue_final_message is True, which is not supported"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, "a part of type 'image_url'"),
        ({"model": "north", "tools": TOOLS, "messages": CHAT[1:]}, 422, "north calls no tools"),
        ({"model": "north"}, 422, "north"),
        ({"chat_template": "x"}, 422, "chat_template"),
    ],
)
def test_a_chat_that_is_wrong_is_told_why(
    chat_client: TestClient, changes: dict[str, Any], status: int, message: str
) -> None:
    response = chat_client.post("/tokenize", json={"model": "base", "messages": CHAT, **changes})
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


def test_a_chat_needs_a_model_that_generates(classifier: Classifier, chat_client: TestClient) -> None:
    generator = chat_client.app.state.engine.generator  # type: ignore[attr-defined]
    engine = CombinedEngine([AsyncClassifier(classifier), AsyncTextGenerator(generator)])
    with TestClient(make_app(engine)) as both:
        refused = both.post("/tokenize", json={"model": "tone", "messages": CHAT})
        assert (refused.status_code, "classifiers read no chats" in refused.text) == (422, True)
        found = both.post("/tokenize", json={"model": "base", "messages": CHAT}).json()
    assert found == chat_client.post("/tokenize", json={"model": "base", "messages": CHAT}).json()
