"""Texts over HTTP, as OpenAI's clients ask for them."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engines import make_engine
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.limits import GenerationLimits
from serve.sampling_params import SamplingParams
from tests.fixtures.generation_banks import NAMES
from tests.fixtures.metrics import metrics_with
from tests.serve.conftest import live_app

pytestmark = pytest.mark.slow
LONG = {"model": "one", "prompt": "a shop", "max_tokens": 55, "logit_bias": {2: -100}}
"""A text that no token ends."""


@pytest.fixture(scope="module")
def bundle(folder_of: Callable[[str], Path]) -> Path:
    return folder_of("llama") / "bank"


@pytest.fixture(scope="module")
def generator(bundle: Path) -> Generator:
    return Generator(bundle, provider="cpu", threads=1)


@pytest.fixture
def client(generator: Generator) -> Iterator[httpx.Client]:
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        yield client


def ask(client: httpx.Client, **body: object) -> Any:
    response = client.post("/v1/completions", json={"model": "one", "prompt": "a shop", **body})
    assert response.status_code == 200, response.text
    return response.json()


def events(client: httpx.Client, **body: object) -> list[Any]:
    with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_adapter_is_a_model(client: httpx.Client, generator: Generator) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == [*NAMES, "base"]
    for name in NAMES:
        response = client.post("/v1/completions", json={"model": name, "prompt": ["a shop", "good"], "max_tokens": 6})
        assert (response.headers["x-adapter"], response.headers["x-adapter-sha256"]) == (
            name,
            generator.cards[name].sha256,
        )
        expected = generator(["a shop", "good"], adapter=name, max_new_tokens=6)
        found = response.json()
        assert [choice["text"].strip() for choice in found["choices"]] == [one.text for one in expected]
        assert found["usage"]["completion_tokens"] == sum(len(one.tokens) for one in expected)


def test_the_base_writes_by_its_own_name_only(client: httpx.Client, generator: Generator, bundle: Path) -> None:
    found = client.post("/v1/completions", json={"model": "base", "prompt": "a shop", "max_tokens": 6})
    assert found.headers["x-adapter-sha256"] == generator.bundle.manifest.base["sha256"]
    few = Generator(bundle, provider="cpu", threads=1, slots=1)
    texts = few(["a shop"] * 3, adapter=["one", "base", "third"], max_new_tokens=6)
    alone = [generator("a shop", adapter=name, max_new_tokens=6)[0] for name in ("one", "base", "third")]
    assert texts == alone
    assert found.json()["choices"][0]["text"].strip() == alone[1].text
    assert client.post("/v1/completions", json={"model": "bass", "prompt": "a shop"}).status_code == 404


def test_the_base_ends_where_its_generation_configuration_says(generator: Generator) -> None:
    assert "generation_config.json" in generator.bundle.manifest.files
    configured = json.loads((generator.bundle.folder / "generation_config.json").read_text())["eos_token_id"]
    assert generator.find("base").card.eos_token_ids == [configured]


def test_a_stream_is_the_text_in_pieces(client: httpx.Client) -> None:
    whole = ask(client, max_tokens=9)["choices"][0]
    found = events(client, model="one", prompt="a shop", max_tokens=9, stream_options={"include_usage": True})
    *pieces, end, usage = found
    assert "".join(event["choices"][0]["text"] for event in pieces) == whole["text"]
    assert [event["choices"][0]["finish_reason"] for event in pieces] == [None] * len(pieces)
    assert end["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    assert len({event["id"] for event in found}) == 1


def test_sampling_is_asked_for_by_openais_names(client: httpx.Client, generator: Generator) -> None:
    body = {"temperature": 2.0, "top_k": 9, "top_p": 0.9, "seed": 5, "n": 3, "max_tokens": 7, "logprobs": 2}
    found = ask(client, **body)
    sampling = SamplingParams(temperature=2.0, top_k=9, top_p=0.9, seed=5, n=3, max_new_tokens=7, logprobs=2)
    expected = generator("a shop", adapter="one", sampling=sampling)
    assert [choice["text"].strip() for choice in found["choices"]] == [one.text for one in expected]
    for choice, one in zip(found["choices"], expected, strict=True):
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"] == [entry.logprob for entry in one.logprobs]
        assert len({len(part) for part in logprobs.values()}) == 1
    searched = ask(client, num_beams=3, length_penalty=0.8, max_tokens=7)
    paper = SamplingParams(num_beams=3, length_penalty=0.8, max_new_tokens=7)
    assert searched["choices"][0]["text"].strip() == generator("a shop", adapter="one", sampling=paper)[0].text


def test_a_prompt_that_is_too_long_is_cut_where_that_is_asked_for(client: httpx.Client, generator: Generator) -> None:
    long = "a shop " * 20
    found = ask(client, prompt=long, truncate=True, max_tokens=6)
    assert found["usage"]["prompt_tokens"] == 24
    assert found["choices"][0]["text"].strip() == generator(long, adapter="one", max_new_tokens=6)[0].text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "nobody"}, 404, "there is no adapter 'nobody'"),
        ({"model": None}, 422, "name an adapter"),
        ({"prompt": " "}, 422, "the text is empty"),
        ({"prompt": "a shop " * 20}, 422, "one reads 24 at most: shorten it, or set truncate to true"),
        ({"prompt": []}, 422, "0 prompts with n 1: ask for 1 to 64 texts"),
        ({"prompt": ["a"] * 9, "n": 9}, 422, "9 prompts with n 9: ask for 1 to 64 texts"),
        ({"stop": ["x"] * 10_000}, 422, "stop has 10000 strings: give at most 64"),
        ({"stop": ""}, 422, "none of them empty"),
        ({"temperature": -1}, 422, "temperature is -1.0: it must be 0 or more"),
        ({"max_tokens": -1}, 422, "max_tokens is -1: it must be at least 0"),
        ({"max_tokens": 10_000}, 422, "10000 more never fit: the model's context has 64"),
        ({"max_tokens": 10_000, "stream": True}, 422, "10000 more never fit"),
        ({"logit_bias": {"999999": 1}}, 422, "logit_bias names token 999999"),
        ({"logit_bias": {"-1": 1}}, 422, "logit_bias names token -1"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 422, "has no schema"),
        ({"best_of": 3}, 422, "best_of is 3: only the same as n, 1, is supported"),
        ({"best_off": 3}, 422, "best_off: unknown field, leave it out"),
        ({"num_beams": 99}, 422, "num_beams is 99"),
        ({"num_beams": 2, "length_penalty": 1e300}, 422, "length_penalty is 1e+300"),
        ({"stream": True, "prompt_logprobs": 1}, 422, "the prompt's log probabilities are not streamed"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": None}}},
            422,
            "response_format.json_schema has no schema",
        ),
    ],
)
def test_bad_input_is_one_clear_error(client: httpx.Client, body: dict[str, Any], status: int, message: str) -> None:
    response = client.post("/v1/completions", json={"model": "one", "prompt": "a shop", **body})
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert not client.get("/metrics").text.count("adamix_live_rows 1")


def waiting(generator: Generator, count: int) -> None:
    """Return when so many rows are being written, or fail."""
    for _ in range(2000):
        if len(generator.scheduler.buckets.rows) == count and not generator.scheduler.waiting:
            return
        time.sleep(0.01)
    raise AssertionError(f"{len(generator.scheduler.buckets.rows)} rows, {generator.scheduler.waiting} queued")


@contextlib.contextmanager
def slowed(generator: Generator) -> Iterator[None]:
    """Let every step take a while: a text is still being written when something happens to it, on any machine."""
    step = generator.scheduler.step
    generator.scheduler.step = lambda: (time.sleep(0.1), step())[1]  # type: ignore[method-assign]
    try:
        yield
    finally:
        generator.scheduler.step = step  # type: ignore[method-assign]


@pytest.fixture
def slow(generator: Generator) -> Iterator[Generator]:
    with slowed(generator):
        yield generator


def test_null_is_what_was_not_given(client: httpx.Client) -> None:
    nothing = dict.fromkeys(("stop", "temperature", "logit_bias", "seed", "user", "suffix", "stream", "max_tokens"))
    del nothing["suffix"]
    assert ask(client, **nothing)["choices"] == ask(client)["choices"]


def test_logprobs_are_those_of_the_text(client: httpx.Client) -> None:
    body = {"max_tokens": 12, "logprobs": 2, "logit_bias": {"2": -100}, "temperature": 3.0, "seed": 3}
    whole = ask(client, **body)["choices"][0]
    text, offsets = whole["text"], whole["logprobs"]["text_offset"]
    assert len(offsets) == 12 and offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] <= len(text)
    for start, end, token in zip(offsets, [*offsets[1:], len(text)], whole["logprobs"]["tokens"], strict=True):
        assert text[start:end] in ("", token, token.lstrip())
    stop = text[offsets[5] :].strip()[:3]
    cut = ask(client, **body, stop=stop)["choices"][0]
    assert cut["finish_reason"] == "stop" and stop not in cut["text"]
    assert all(offset < len(cut["text"]) for offset in cut["logprobs"]["text_offset"])
    assert {len(part) for part in cut["logprobs"].values()} == {len(cut["logprobs"]["tokens"])}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_the_queue_frees_its_place(bundle: Path, stream: bool) -> None:
    generator = Generator(bundle, provider="cpu", threads=1, limits=GenerationLimits(max_batch_requests=1))
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        first = threading.Thread(target=lambda: client.post("/v1/completions", json=LONG))
        with slowed(generator):
            first.start()
            waiting(generator, 1)
            with pytest.raises(httpx.ReadTimeout):
                timeout = httpx.Timeout(30, read=0.1)
                client.post("/v1/completions", json={**LONG, "stream": stream}, timeout=timeout)
            waiting(generator, 1)
            assert first.is_alive(), "the first is still being written"
        first.join(60)


def test_more_texts_than_may_wait_are_refused_whole(bundle: Path) -> None:
    generator = Generator(
        bundle, provider="cpu", threads=1, limits=GenerationLimits(max_batch_requests=1, max_queued_requests=3)
    )
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        found = client.post("/v1/completions", json={"model": "one", "prompt": ["good"] * 4})
        assert found.status_code == 422 and "4 texts at once: at most 3 may wait" in found.json()["error"]["message"]
        assert len(client.post("/v1/completions", json={"model": "one", "prompt": ["good"] * 3}).json()["choices"]) == 3
    assert len(generator(["good"] * 9, adapter="one")) == 9, "a program's own are fed as there is room"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_row(client: httpx.Client, slow: Generator, stream: bool) -> None:
    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream(
            "POST", "/v1/completions", json={**LONG, "stream": stream}, timeout=httpx.Timeout(30, read=0.2)
        ) as response,
    ):
        for _ in response.iter_lines():
            waiting(slow, 1)
            raise httpx.ReadTimeout("the client has read enough")
    waiting(slow, 0)
    assert 'adamix_ended_total{reason="length"}' not in client.get("/metrics").text


def test_what_does_not_fit_waits_and_then_is_refused(bundle: Path) -> None:
    generator = Generator(
        bundle,
        provider="cpu",
        threads=1,
        limits=GenerationLimits(max_batch_requests=1, max_queued_requests=1, timeout=60),
    )
    statuses: list[int] = []
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        first, second = (
            threading.Thread(target=lambda: statuses.append(client.post("/v1/completions", json=LONG).status_code))
            for _ in range(2)
        )
        with slowed(generator):
            first.start()
            waiting(generator, 1)
            second.start()
            while not generator.scheduler.waiting:
                time.sleep(0.005)
            refused = client.post("/v1/completions", json=LONG)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            generator.scheduler.queue.limits = GenerationLimits(
                max_batch_requests=1, max_queued_requests=2, timeout=0.01
            )
            assert client.post("/v1/completions", json=LONG).status_code == 504
        for thread in (first, second):
            thread.join(60)
    assert sorted(statuses) == [200, 504]


def test_an_encoder_decoder_generates_over_http(folder_of: Callable[[str], Path]) -> None:
    limits = {"max_tokens_in_flight": 500}
    engine = make_engine(folder_of("t5") / "bank", limits, provider="cpu", threads=1)
    with live_app(make_app(engine)) as client:
        body = {"model": "one", "max_tokens": 9, "logprobs": 1, "logit_bias": {"2": -100, "1": -100}}
        found = ask(client, **body)["choices"][0]
        assert found["text"] and len(found["logprobs"]["tokens"]) == 9
        pieces = events(client, prompt="a shop", **{key: body[key] for key in ("model", "max_tokens", "logit_bias")})
        assert "".join(event["choices"][0]["text"] for event in pieces) == found["text"]
        assert client.get("/info").json()["task"] == "text2text-generation"


def test_the_counters_tell_what_was_written(client: httpx.Client) -> None:
    ask(client, max_tokens=5, logit_bias={"2": -100})
    metrics_with(
        client,
        'adamix_rows_total{adapter="one"} 1.0',
        'adamix_ended_total{reason="length"} 1.0',
        'adamix_tokens_total{kind="written"} 5.0',
        "adamix_first_token_seconds_count 1.0",
        "adamix_live_rows 0.0",
        "adamix_tokens_in_flight 0.0",
    )
    assert client.get("/info").json()["task"] == "text-generation"
