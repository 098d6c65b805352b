"""OpenAI's completions over a decoder that is computed by hand."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import NAMES, HandComputedDecoder, write_decoder_bundle
from tests.serve.conftest import live_app


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
