"""OpenAI's completions over a decoder that is computed by hand."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import END, NAMES, HandComputedDecoder, write_decoder_bundle
from tests.serve.conftest import WORDS, live_app


def test_openais_clients_are_answered(generator: Generator) -> None:
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [*NAMES, "base"]
        body = {"prompt": "good bad the", "max_tokens": 7}
        for name in NAMES:
            answer = client.post("/v1/completions", json={**body, "model": name})
            assert answer.headers["x-adapter-sha256"] == generator.cards[name].sha256
            expected = generator("good bad the", adapter=name, max_new_tokens=7)[0]
            assert answer.json()["choices"][0]["text"].strip() == expected.text
        assert client.post("/v1/completions", json={**body, "model": "east"}).status_code == 404


def test_a_request_that_the_end_of_the_server_cuts_off_is_told_so(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvicorn does when the time to exit is over: it cancels the tasks of requests."""
    step = generator.scheduler.step
    monkeypatch.setattr(generator.scheduler, "step", lambda: (time.sleep(0.05), step())[1])
    engine = AsyncTextGenerator(generator)
    app = make_app(engine)

    async def cut_off() -> httpx.Response:
        async with engine, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            body = {"model": "north", "prompt": "good", "max_tokens": 40, "logit_bias": {"2": -100}}
            asking = asyncio.create_task(client.post("/v1/completions", json=body))
            await asyncio.sleep(0.2)
            asking.cancel()
            return await asking

    found = asyncio.run(cut_off())
    assert found.status_code == 503
    assert found.json()["error"]["code"] == "shutting_down"


def test_a_prompt_that_no_adapter_could_read_is_refused(generator: Generator) -> None:
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        for truncate in (False, True):
            body = {"model": "north", "prompt": ["good", "a " * 900_000], "truncate": truncate}
            answer = client.post("/v1/completions", json=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid_request_error")
            assert "the text has 1800000 characters" in answer.json()["error"]["message"]


def test_a_token_without_an_embedding_is_refused_by_name(decoder: HandComputedDecoder, tmp_path: Path) -> None:
    folder = write_decoder_bundle(tmp_path / "bundle", decoder, vocab_size=10)
    generator = Generator(folder, provider="cpu", threads=1)
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        body = {"model": "north", "max_tokens": 3}
        answer = client.post("/v1/completions", json={**body, "prompt": "very good"})
        assert answer.status_code == 422
        message = "the text has the token 'very', number 10, and the base has embeddings for 10: leave it out"
        assert answer.json()["error"]["message"] == message
        assert client.post("/v1/completions", json={**body, "prompt": "good"}).status_code == 200


def test_an_echo_has_the_prompt_and_its_log_probabilities(generator: Generator, decoder: HandComputedDecoder) -> None:
    """As evaluators ask for log-likelihoods: token ids, echo, one token or none."""
    prompts = [[4, 5, 9], [6, 7, 8, 4]]
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        for count in (0, 1):
            body = {"model": "north", "prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": count}
            choices = client.post("/v1/completions", json=body).json()["choices"]
            for ids, choice in zip(prompts, choices, strict=True):
                found, words = choice["logprobs"], [WORDS[token] for token in ids]
                assert choice["text"].startswith(" ".join(words))
                assert [text.strip() for text in found["tokens"][: len(ids)]] == words and found["text_offset"][0] == 0
                assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
                assert len(found["tokens"]) == len(ids) + count
                for place in range(1, len(ids)):
                    logits = decoder.logits(ids[:place], "north").astype(np.float64)
                    expected = logits - np.log(np.exp(logits).sum())
                    assert found["token_logprobs"][place] == pytest.approx(expected[ids[place]], abs=1e-4)
                    assert max(found["top_logprobs"][place].values()) == pytest.approx(expected.max(), abs=1e-4)
                    best = {text.strip() for text in found["top_logprobs"][place]}
                    assert best == {words[place], WORDS[int(logits.argmax())]}
                    assert choice["text"][found["text_offset"][place] :].strip().startswith(words[place])


def test_an_echo_has_the_end_token_as_well(generator: Generator, decoder: HandComputedDecoder) -> None:
    """Evaluators leave out the one generated token by its place, whether it ends the text or not."""
    ids = [4, 5, 9]
    logits = decoder.logits(ids, "north").astype(np.float64)
    body = {"model": "north", "prompt": [ids], "echo": True, "logprobs": 1, "max_tokens": 1, "logit_bias": {END: 100}}
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        choice = client.post("/v1/completions", json=body).json()["choices"][0]
        without = client.post("/v1/completions", json={**body, "echo": False}).json()["choices"][0]
    found = choice["logprobs"]
    assert choice["finish_reason"] == "stop"
    assert {len(values) for values in found.values()} == {len(ids) + 1}
    expected = logits[END] - np.log(np.exp(logits).sum())
    assert found["token_logprobs"][-1] == pytest.approx(expected, abs=1e-4)
    assert found["text_offset"][-1] == len(choice["text"])
    assert without["logprobs"]["tokens"] == []


def test_a_stream_has_the_log_probabilities_and_the_ids_of_its_tokens(generator: Generator) -> None:
    body = {"model": "north", "prompt": ["good bad", "late bill"], "max_tokens": 6, "logprobs": 2, "n": 2, "seed": 1}
    body |= {"temperature": 1.0, "return_token_ids": True}
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        whole = client.post("/v1/completions", json=body).json()
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with client.stream("POST", "/v1/completions", json=asked) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    *events, last = [json.loads(line) for line in lines[:-1]]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for expected in whole["choices"]:
        pieces = [one["choices"][0] for one in events if one["choices"][0]["index"] == expected["index"]]
        assert "".join(piece["text"] for piece in pieces) == expected["text"]
        assert [token for piece in pieces for token in piece["token_ids"]] == expected["token_ids"]
        for name, values in expected["logprobs"].items():
            assert [value for piece in pieces for value in piece["logprobs"][name]] == values


def test_a_stream_begins_with_the_prompt_where_it_is_asked_for(generator: Generator) -> None:
    body = {"model": "north", "prompt": [[4, 5], [6]], "echo": True, "max_tokens": 3, "return_token_ids": True}
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        whole = client.post("/v1/completions", json=body).json()["choices"]
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    events = [json.loads(line)["choices"][0] for line in lines[:-1]]
    for expected in whole:
        first, *pieces = [one for one in events if one["index"] == expected["index"]]
        assert first["prompt_token_ids"] == expected["prompt_token_ids"] == body["prompt"][expected["index"]]
        assert first["text"] + "".join(piece["text"] for piece in pieces) == expected["text"]


def test_the_results_of_a_search_are_its_best_ones(generator: Generator) -> None:
    body = {"model": "north", "prompt": ["good", "bad"], "max_tokens": 5, "use_beam_search": True, "n": 3}
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        found = client.post("/v1/completions", json=body).json()
        alone = client.post("/v1/completions", json={**body, "n": 1, "num_beams": 3}).json()
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    texts = [choice["text"] for choice in found["choices"]]
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    assert texts[::3] == [choice["text"] for choice in alone["choices"]]
    assert len(set(texts[:3])) == len(set(texts[3:])) == 3
    streamed = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert ["".join(one["text"] for one in streamed if one["index"] == index) for index in range(6)] == texts


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"prompt": [4, 99]}, "the prompt has token 99: there are 0 to 10", "prompt"),
        ({"prompt": []}, "0 prompts with n 1: ask for 1 to 64 texts", "prompt"),
        ({"prompt": " "}, "the text is empty", "prompt"),
        ({"prompt": "\u200b\0"}, "the text is empty", "prompt"),
        ({"prompt": "good " * 40}, "the prompt has 42 tokens, north reads 32 at most", "prompt"),
        ({"prompt": "good", "max_tokens": 99}, "and 99 more never fit", "max_tokens"),
        (
            {"prompt": "good", "min_tokens": 9, "max_tokens": 2},
            "min_tokens is 9: it must be 0 to max_tok",
            "min_tokens",
        ),
        (
            {"prompt": "good", "structured_outputs": {"regex": "("}},
            "structured_outputs cannot",
            "structured_outputs",
        ),
        ({"prompt": "good", "logit_bias": {"99": 1}}, "logit_bias names token 99", "logit_bias"),
        ({"prompt": "good", "best_off": 1}, "best_off: unknown field, leave it out", "best_off"),
        (
            {"prompt": "good", "stream_options": {"usage": True}},
            "stream_options.usage: unknown field",
            "stream_options",
        ),
        (
            {"prompt": "good", "num_beams": 2, "bad_words": ["bad"]},
            "bad_words: a beam search goes without",
            "bad_words",
        ),
        (
            {"prompt": "good", "use_beam_search": True, "n": 2, "min_tokens": 2},
            "min_tokens: a beam search goes without, leave out either",
            "min_tokens",
        ),
        (
            {"prompt": "good", "allowed_token_ids": [5], "bad_words": ["bad"]},
            "allowed_token_ids, bad_words: what this excludes leaves no token that may come next",
            "allowed_token_ids",
        ),
    ],
)
def test_a_field_is_called_as_the_client_called_it(
    generator: Generator, body: dict[str, Any], message: str, param: str
) -> None:
    with TestClient(make_app(AsyncTextGenerator(generator))) as client:
        response = client.post("/v1/completions", json={"model": "north", **body})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (422, "invalid_request_error", param)
    assert message in error["message"]
