"""The routes against the bundle's own tokenizer."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from serve.bundle.tokenizer_config import readable_config
from serve.classification.classifier import Classifier


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
        ("/tokenize", {"model": "tone"}, 422, "send a text as prompt, or texts as inputs"),
        ("/tokenize", {"prompt": "a", "inputs": "a"}, 422, "send a text as prompt, or texts as inputs"),
        ("/tokenize", {"inputs": []}, 422, "inputs has 0 texts: send 1 to 64"),
        ("/tokenize", {"inputs": ["a"] * 65}, 422, "inputs has 65 texts: send 1 to 64"),
        ("/tokenize", {"prompt": "a" * 300_000}, 422, "the text has 300000 characters"),
        ("/tokenize", {"messages": []}, 422, "messages: unknown field, leave it out"),
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
