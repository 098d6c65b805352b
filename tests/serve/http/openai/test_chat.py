"""OpenAI's chats over a decoder that is computed by hand, whose base has a chat template."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import HandComputedDecoder, write_decoder_bundle
from tests.serve.conftest import WORDS, live_app

TEMPLATE = (
    "{% for message in messages %}{{ message.content }} {% endfor %}{% if add_generation_prompt %}the{% endif %}"
    "{% if refuse %}{{ raise_exception('refused') }}{% endif %}"
)
USER = [{"role": "user", "content": "good bad"}]


@pytest.fixture(scope="module")
def client(decoder: HandComputedDecoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("chat") / "bundle"
    with live_app(make_app(AsyncTextGenerator(chatting(decoder, folder)), max_client_batch_size=4)) as client:
        yield client


def chatting(decoder: HandComputedDecoder, folder: Path) -> Generator:
    write_decoder_bundle(folder, decoder, tokenizer_config={"chat_template": TEMPLATE})
    return Generator(folder, provider="cpu", threads=1)


def ask(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/chat/completions", json={"model": "base", "messages": USER, "max_tokens": 5, **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    asked = {"model": "base", "messages": USER, "max_tokens": 5, "stream": True, **body}
    with client.stream("POST", "/v1/chat/completions", json=asked) as response:
        assert response.status_code == 200
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text(ids: list[int]) -> str:
    return " ".join(WORDS[token] for token in ids)


def test_the_base_reads_the_text_of_its_template(client: httpx.Client, decoder: HandComputedDecoder) -> None:
    """The template has all special tokens that its text needs: the tokenizer adds none."""
    prompt = [WORDS.index(word) for word in ("good", "bad", "the")]
    found = ask(client, return_token_ids=True)
    assert found["prompt_token_ids"] == prompt
    assert found["object"] == "chat.completion"
    (choice,) = found["choices"]
    expected = decoder.greedy(prompt, None, 5)
    assert choice["token_ids"] == expected
    assert choice["message"] == {"role": "assistant", "content": text(expected), "refusal": None}
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": len(expected), "total_tokens": 3 + len(expected)}
    assert ask(client, add_generation_prompt=False, return_token_ids=True)["prompt_token_ids"] == prompt[:2]


def test_an_adapter_reads_the_users_message_in_its_own_prompt(client: httpx.Client) -> None:
    """The adapters here were trained on the input alone; completions have the same prompt."""
    same = client.post("/v1/completions", json={"model": "north", "prompt": "good bad", "max_tokens": 5}).json()
    assert ask(client, model="north")["choices"][0]["message"]["content"] == same["choices"][0]["text"]
    models = {one["id"]: one["chat"] for one in client.get("/v1/models").json()["data"]}
    assert (models["north"], models["base"]) == ("prompt", "template")


def test_parts_of_text_are_lines_and_developers_are_the_system(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "good"}, {"type": "text", "text": "bad"}]
    assert ask(client, messages=[{"role": "user", "content": parts}])["choices"] == ask(client)["choices"]
    both = [{"role": "developer", "content": "late"}, *USER]
    assert ask(client, messages=both, return_token_ids=True)["prompt_token_ids"][0] == WORDS.index("late")


def test_a_refusal_is_what_the_assistant_said(client: httpx.Client) -> None:
    said = [
        ask(client, messages=[*USER, {"role": "assistant", **message}, *USER], return_token_ids=True)
        for message in ({"content": None, "refusal": "late"}, {"content": "late", "refusal": None})
    ]
    assert said[0]["prompt_token_ids"] == said[1]["prompt_token_ids"]
    assert WORDS.index("late") in said[0]["prompt_token_ids"]


def test_a_base_that_cannot_follow_schemas_names_the_field(client: httpx.Client) -> None:
    """Its words are no bytes."""
    body = {"model": "base", "messages": USER, "response_format": {"type": "json_object"}}
    error = client.post("/v1/chat/completions", json=body).json()["error"]
    assert error["message"].startswith("response_format cannot be followed with this base's tokenizer: ")
    assert error["param"] == "response_format"


@pytest.mark.parametrize("n", [1, 3])
def test_the_pieces_of_a_stream_are_the_whole_texts(client: httpx.Client, n: int) -> None:
    body = {"n": n, "temperature": 1.0, "seed": 3, "logprobs": True, "top_logprobs": 2, "return_token_ids": True}
    whole = {choice["index"]: choice for choice in ask(client, **body)["choices"]}
    found = events(client, **body, stream_options={"include_usage": True, "continuous_usage_stats": True})
    *found, last = found
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == sum(
        len(choice["token_ids"]) for choice in whole.values()
    )
    assert [one["usage"]["completion_tokens"] for one in found] == sorted(
        one["usage"]["completion_tokens"] for one in found
    )
    for index in range(n):
        pieces = [choice for one in found for choice in one["choices"] if choice["index"] == index]
        assert pieces[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(piece["delta"].get("content", "") for piece in pieces) == whole[index]["message"]["content"]
        assert [piece["finish_reason"] for piece in pieces][-1] == whole[index]["finish_reason"]
        assert {piece["finish_reason"] for piece in pieces[:-1]} == {None}
        entries = [entry for piece in pieces if piece["logprobs"] for entry in piece["logprobs"]["content"]]
        assert entries == whole[index]["logprobs"]["content"]
        assert [token for piece in pieces for token in piece.get("token_ids", ())] == whole[index]["token_ids"]


def test_each_token_has_its_bytes_and_the_most_probable_ones(client: httpx.Client) -> None:
    entries = ask(client, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    for entry in entries:
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]
        assert len(entry["top_logprobs"]) == 2
    assert ask(client, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_two_names_of_the_length_are_one(client: httpx.Client) -> None:
    assert ask(client, max_tokens=None, max_completion_tokens=2)["usage"]["completion_tokens"] == 2
    assert ask(client, max_tokens=2, max_completion_tokens=2)["usage"]["completion_tokens"] == 2


LENGTH = "max_completion_tokens"
REFUSED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "no messages": ({"messages": []}, "messages: List should have at least 1 item", "messages"),
    "no user": ({"messages": [{"role": "system", "content": "good"}]}, "messages have none of the user", "messages"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages have a part of type 'image_url': models here read text alone",
        "messages",
    ),
    "a text with an image": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "good", "image_url": {"url": "data:"}}]}]},
        "messages have a part of text with the unknown field 'image_url': leave it out",
        "messages",
    ),
    "a sound": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages have a part of type 'input_audio'",
        "messages",
    ),
    "a role": ({"messages": [{"role": "ghost", "content": "boo"}]}, "messages.0.role: Input should be", "messages"),
    "a message without content": ({"messages": [{"role": "user"}]}, "a message of the user has no content", "messages"),
    "a field": ({"colour": 1}, "colour: unknown field, leave it out", "colour"),
    "a field of a message": (
        {"messages": [{**USER[0], "colour": 1}]},
        "messages.0.colour: unknown field, leave it out",
        "messages",
    ),
    "the template's own words": (
        {"chat_template_kwargs": {"refuse": True}},
        "the base's chat template refuses these messages: refused",
        "messages",
    ),
    "a variable that is a field": (
        {"chat_template_kwargs": {"messages": []}},
        "the template's variable messages has a field of its own: leave it out",
        "chat_template_kwargs",
    ),
    "a length by its name": (
        {"max_tokens": None, "max_completion_tokens": 99},
        "the prompt's 3 tokens and 99 more never fit: the model's context has 48",
        "max_completion_tokens",
    ),
    "a length below zero": ({"max_tokens": -1}, "max_tokens is -1: it must be at least 0", "max_tokens"),
    "two lengths": (
        {"max_completion_tokens": 2},
        "max_tokens and max_completion_tokens differ",
        "max_completion_tokens",
    ),
    "tops alone": ({"top_logprobs": 2}, "top_logprobs goes with logprobs", "top_logprobs"),
    "too many tops": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs is 21: it must be 0 to 20", "top_logprobs"),
    "too many texts": ({"n": 5}, "1 prompts with n 5: ask for 1 to 4 texts", "n"),
    "functions": (
        {"functions": []},
        "functions is [], which is not supported: give nothing",
        "functions",
    ),
    "sound": ({"modalities": ["audio"]}, "modalities is ['audio'], which is not supported", "modalities"),
    "tools": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "base calls no tools: no chat template of it takes them in a known form",
        "tools",
    ),
    "a system message of an adapter": (
        {"model": "north", "messages": [{"role": "system", "content": "late"}, *USER]},
        "adapter north was trained on one input in the prompt '{input}': send one message of the user",
        "messages",
    ),
    "a name of an adapter's message": (
        {"model": "north", "messages": [{**USER[0], "name": "me"}]},
        "a message's name goes with a chat template, and adapter north was trained without one: leave it out",
        "messages",
    ),
    "an adapter's template variables": (
        {"model": "north", "chat_template_kwargs": {"colour": 1}},
        "chat_template_kwargs goes with a chat template, and adapter north was trained without one: leave it out",
        "chat_template_kwargs",
    ),
    "an adapter's prompt without its end": (
        {"model": "north", "add_generation_prompt": False},
        "add_generation_prompt goes with a chat template, and adapter north was trained without one: leave it out",
        "add_generation_prompt",
    ),
}


@pytest.mark.parametrize(("body", "message", "param"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_refused_by_name(
    client: httpx.Client, body: dict[str, Any], message: str, param: str | None, stream: bool
) -> None:
    asked = {"model": "base", "messages": USER, "max_tokens": 5, "stream": stream, **body}
    response = client.post("/v1/chat/completions", json=asked)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (422, "invalid_request_error", param)
    assert message in error["message"]


def test_an_unknown_model_is_never_the_base(client: httpx.Client) -> None:
    response = client.post("/v1/chat/completions", json={"model": "east", "messages": USER})
    assert response.status_code == 404
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == ("model", "model_not_found")
