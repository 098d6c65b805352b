"""Triton's generate extension over a decoder that is computed by hand."""

import json
import struct
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from serve.errors import GenerationFailed
from serve.generated_text import StreamEvent, StreamStart, TextDelta
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.requests import GenerationRequest
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import NAMES, random_decoder, write_decoder_bundle
from tests.fixtures.toy_engine import SHA256, ToyEngine
from tests.serve.conftest import live_app

NORTH = "/v2/models/north"
SAMPLING = {"max_tokens": 7, "ignore_eos": True}
BODY = {"text_input": "good bad the", "parameters": SAMPLING}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = write_decoder_bundle(tmp_path_factory.mktemp("generate") / "bundle", random_decoder())
    return Generator(folder, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[httpx.Client]:
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        yield client


def expected(generator: Generator, *prompts: str, name: str = "north") -> list[str]:
    sampling = SamplingParams(max_new_tokens=7, ignore_eos=True)
    return [result.text for result in generator(list(prompts), adapter=name, sampling=sampling)]


def events(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


@pytest.mark.parametrize("name", [*NAMES, "base"])
def test_a_text_is_that_of_the_engine(server: httpx.Client, generator: Generator, name: str) -> None:
    response = server.post(f"/v2/models/{name}/generate", json={**BODY, "id": "7"})
    answer = response.json()
    sha256 = generator.find(name).card.sha256
    assert answer.pop("text_output").strip() == expected(generator, "good bad the", name=name)[0]
    assert answer == {"id": "7", "model_name": name, "model_version": sha256[:12], "finish_reason": "length"}
    assert response.headers["x-adapter-sha256"] == sha256


def test_parameters_may_stand_beside_the_text(server: httpx.Client) -> None:
    beside = server.post(f"{NORTH}/generate", json={"text_input": "good bad the", **SAMPLING, "stream": False})
    assert beside.json() == server.post(f"{NORTH}/generate", json=BODY).json()
    twice = server.post(f"{NORTH}/generate", json={**BODY, "max_tokens": 7})
    assert (twice.status_code, twice.json()["error"]) == (422, "parameter max_tokens is given twice: send it once")


def test_a_parameter_may_name_the_adapter_that_the_model_is(server: httpx.Client) -> None:
    named = server.post(f"{NORTH}/generate", json={**BODY, "adapter": "north"})
    assert named.json() == server.post(f"{NORTH}/generate", json=BODY).json()
    other = server.post(f"{NORTH}/generate", json={**BODY, "adapter": "south"})
    message = "parameter adapter is 'south', and the model is 'north': ask /v2/models/south"
    assert (other.status_code, other.json()["error"]) == (422, message)


def test_litellms_body_is_answered(server: httpx.Client) -> None:
    parameters = {**SAMPLING, "bad_words": [""], "stop_words": [""]}
    answer = server.post(f"{NORTH}/generate", json={**BODY, "parameters": parameters, "stream": False})
    assert answer.json() == server.post(f"{NORTH}/generate", json=BODY).json()


def test_pieces_of_a_stream_join_to_the_text(server: httpx.Client) -> None:
    response = server.post(f"{NORTH}/generate_stream", json={**BODY, "id": "7"})
    whole = server.post(f"{NORTH}/generate", json={**BODY, "id": "7"}).json()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    pieces = events(response.text)
    assert "".join(one["text_output"] for one in pieces) == whole["text_output"]
    assert len(pieces) > 3 and [one["done"] for one in pieces] == [False] * (len(pieces) - 1) + [True]
    assert {**pieces[-1], "text_output": whole["text_output"]} == {**whole, "done": True}
    once = server.post(f"{NORTH}/generate_stream", json={**BODY, "id": "7", "stream": False})
    assert events(once.text) == [{**whole, "done": True}]


def test_a_beam_search_is_streamed_whole(server: httpx.Client) -> None:
    body = {"text_input": "good", "num_beams": 3, "max_tokens": 5}
    streamed = events(server.post(f"{NORTH}/generate_stream", json=body).text)
    whole = server.post(f"{NORTH}/generate", json=body).json()
    assert "".join(one["text_output"] for one in streamed) == whole["text_output"]


def test_a_version_is_that_of_the_weights(server: httpx.Client, generator: Generator) -> None:
    version = generator.cards["north"].sha256[:12]
    for route in ("generate", "generate_stream"):
        assert server.post(f"{NORTH}/versions/{version}/{route}", json=BODY).status_code == 200
        other = server.post(f"{NORTH}/versions/1/{route}", json=BODY)
        assert (other.status_code, other.json()["error"]) == (
            404,
            f"model 'north' has no version '1'; there is {version}",
        )


def test_tensors_of_texts_go_in_and_out(server: httpx.Client, generator: Generator) -> None:
    prompts = ["good bad the", "late"]
    texts = {"name": "text_input", "datatype": "BYTES", "shape": [2, 1], "data": [[one] for one in prompts]}
    answer = server.post(f"{NORTH}/infer", json={"inputs": [texts], "parameters": SAMPLING}).json()
    text, reason = answer["outputs"]
    assert (text["name"], text["shape"], reason["name"]) == ("text_output", [2], "finish_reason")
    assert [one.strip() for one in text["data"]] == expected(generator, *prompts)
    assert reason["data"] == ["length", "length"]
    drawn = {"inputs": [texts], "parameters": {**SAMPLING, "n": 2, "temperature": 1.0, "seed": 1}}
    (text,) = server.post(f"{NORTH}/infer", json={**drawn, "outputs": [{"name": "text_output"}]}).json()["outputs"]
    body = {"model": "north", "prompt": prompts, "n": 2, "temperature": 1, "seed": 1, **SAMPLING}
    choices = server.post("/v1/completions", json=body).json()["choices"]
    assert (text["shape"], text["data"]) == ([4], [one["text"] for one in choices])


def tensor(name: str, datatype: str, *data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}


def test_tensors_of_one_value_are_parameters(server: httpx.Client, generator: Generator) -> None:
    """As litellm sends them to a model of Triton."""
    parameters = [tensor("max_tokens", "INT32", 7), tensor("ignore_eos", "BOOL", True)]
    parameters += [tensor("temperature", "FP32", 0.0), tensor("stop", "BYTES", "bill")]
    prompts = tensor("text_input", "BYTES", "good bad the")
    answer = server.post(f"{NORTH}/infer", json={"inputs": [prompts, *parameters]}).json()
    assert answer["outputs"][0]["data"][0].strip() == expected(generator, "good bad the")[0]
    for wrong, message in (
        (tensor("max_tokens", "INT32", 7, 8), "input 'max_tokens' is a parameter: send one value"),
        (tensor("max_tokens", "FP32", "7"), "input 'max_tokens' is '7': that is not of FP32"),
        (tensor("max_tokens", "INT32", -1), "max_tokens is -1: it must be at least 0"),
        (tensor("stream", "BOOL", True), "parameter stream is True: give false"),
        (tensor("colour", "BYTES", "red"), "model 'north' has no input 'colour'; it has text_input"),
    ):
        response = server.post(f"{NORTH}/infer", json={"inputs": [prompts, wrong]})
        assert (response.status_code, message in response.json()["error"]) == (422, True), response.text
    twice = {"inputs": [prompts, parameters[0]], "parameters": {"max_tokens": 7}}
    assert "parameter max_tokens is given twice" in server.post(f"{NORTH}/infer", json=twice).text


def test_parameters_may_be_binary(server: httpx.Client, generator: Generator) -> None:
    text = b"good bad the"
    parts = {
        "text_input": ("BYTES", struct.pack("<I", len(text)) + text),
        "max_tokens": ("INT32", struct.pack("<i", 7)),
        "ignore_eos": ("BOOL", b"\x01"),
    }
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1, 1], "parameters": {"binary_data_size": len(data)}}
        for name, (datatype, data) in parts.items()
    ]
    start = json.dumps({"inputs": inputs}).encode()
    content = start + b"".join(data for _, data in parts.values())
    headers = {"Inference-Header-Content-Length": str(len(start))}
    answer = server.post(f"{NORTH}/infer", content=content, headers=headers).json()
    assert answer["outputs"][0]["data"][0].strip() == expected(generator, "good bad the")[0]


def test_a_generator_is_described(server: httpx.Client, generator: Generator) -> None:
    assert server.get("/v2/models/north").json() == {
        "name": "north",
        "versions": [generator.cards["north"].sha256[:12]],
        "platform": "onnxruntime_adamix",
        "inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "text_output", "datatype": "BYTES", "shape": [-1]},
            {"name": "finish_reason", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    listed = server.post("/v2/repository/index").json()
    assert [one["name"] for one in listed] == [*NAMES, "base"]
    assert server.get("/v2/models/adamix").status_code == 404


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"text_input": None}, 422, "text_input"),
        ({"text_input": ["a"]}, 422, "text_input: Input should be a valid string"),
        ({"text_input": " "}, 422, "the text is empty"),
        ({"text_input": "\u200b\0"}, 422, "the text is empty"),
        ({"text_input": "a " * 40}, 422, "the prompt has 42 tokens, north reads 32 at most"),
        ({"parameters": {"max_tokens": 99}}, 422, "99 more never fit: the model's context has 48"),
        ({"parameters": {"max_tokens": 4, "min_tokens": 5}}, 422, "min_tokens is 5: it must be 0 to max_tokens"),
        ({"parameters": {"max_new_tokens": 9}}, 422, "unknown parameter 'max_new_tokens': it is called max_tokens"),
        ({"colour": "red"}, 422, "unknown parameter 'colour'"),
        ({"n": 2}, 422, "n is 2: ask for one text here"),
        ({"parameters": {"stream": "yes"}}, 422, "stream is not true or false"),
        ({"parameters": []}, 422, "parameters: Input should be an object"),
    ],
)
def test_a_request_that_is_wrong_is_told_why(
    server: httpx.Client, route: str, change: dict[str, Any], status: int, message: str
) -> None:
    response = server.post(f"{NORTH}/{route}", json={**BODY, **change})
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert message in response.json()["error"]


def test_null_parameters_are_none(server: httpx.Client) -> None:
    bare = {"text_input": "good"}
    assert server.post(f"{NORTH}/generate", json={**bare, "parameters": None}).status_code == 200


def test_a_whole_answer_is_no_stream(server: httpx.Client) -> None:
    response = server.post(f"{NORTH}/generate", json={**BODY, "stream": True})
    assert (response.status_code, response.json()["error"]) == (
        422,
        "stream is true: ask /v2/models/north/generate_stream",
    )


def test_an_unknown_model_is_404(server: httpx.Client) -> None:
    for route in ("generate", "generate_stream"):
        response = server.post(f"/v2/models/east/{route}", json=BODY)
        assert response.status_code == 404
        assert response.json()["error"] == "there is no model 'east'; there are north, south, west, base"


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_a_classifier_does_not_generate(client: httpx.Client, route: str) -> None:
    response = client.post(f"/v2/models/tone/{route}", json=BODY)
    assert (response.status_code, response.json()["error"]) == (
        422,
        "model 'tone' classifies texts: send them to /v2/models/tone/infer",
    )


class BreakingEngine(ToyEngine):
    """Fails after the first piece of a text, or has been given other weights when the text is asked for."""

    def __init__(self, sha256: str = SHA256) -> None:
        super().__init__()
        self.sha256 = sha256

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[StreamEvent, None]:
        yield StreamStart("toy", self.sha256, 1, ["a"], [[1]])
        yield TextDelta("A")
        raise GenerationFailed("max_new_tokens broke it")


def test_an_error_in_a_stream_is_its_last_event() -> None:
    with TestClient(make_app(BreakingEngine())) as client:
        response = client.post("/v2/models/toy/generate_stream", json={"text_input": "a"})
    assert response.status_code == 200
    piece, error = events(response.text)
    assert (piece["text_output"], error) == ("A", {"error": "max_tokens broke it"})


def test_weights_that_are_replaced_meanwhile_do_not_answer_for_the_version_before() -> None:
    with TestClient(make_app(BreakingEngine("f" * 64))) as client:
        path = f"/v2/models/toy/versions/{SHA256[:12]}/generate_stream"
        response = client.post(path, json={"text_input": "a"})
    assert (response.status_code, "any more; there is ffffffffffff" in response.text) == (404, True)
