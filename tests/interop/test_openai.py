"""The clients `openai` and `litellm`, in an environment of their own, against a live server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.requests import Chat
from serve.sampling_params import SamplingParams
from tests.adamix_export.converters.peer import peer
from tests.fixtures.hand_computed_decoder import NAMES
from tests.serve.conftest import live_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generator(writer_folder: Path) -> Generator:
    return Generator(writer_folder, provider="cpu", threads=1)


@pytest.fixture(scope="module")
def found(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that the clients found."""
    client, file = peer("openai"), tmp_path_factory.mktemp("found") / "found.json"
    with live_app(make_app(AsyncTextGenerator(generator))) as server:
        client.run("openai_client.py", str(server.base_url).rstrip("/"), file)
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture(scope="module")
def answer(generator: Generator) -> str:
    """The answer to the clients' question, from the engine itself."""
    prompt = generator.prompt(Chat(messages=[{"role": "user", "content": "Rain?"}]), "base")
    (result,) = generator.generate([prompt], sampling=SamplingParams(max_new_tokens=6, ignore_eos=True))
    return result.text


def test_completions(found: dict[str, Any], generator: Generator) -> None:
    completions = found["completions"]
    sampling = SamplingParams(max_new_tokens=6, n=2, seed=1, temperature=1.0)
    assert [text.strip() for text in completions["whole"]] == [
        result.text for result in generator(["ab", "c"], adapter="north", sampling=sampling)
    ]
    assert completions["streamed"] == completions["whole"]
    assert len(completions["echo"]) == 3 and [one is None for one in completions["logprobs"]] == [True, False, False]


def test_chats(found: dict[str, Any], answer: str) -> None:
    chats = found["chats"]
    assert chats["whole"].strip() == answer and chats["streamed"] == chats["whole"]
    assert chats["usage"] == chats["streamed_usage"] > 6 and chats["entries"] == 6
    for texts in (found["async"]["whole"], [found["async"]["streamed"]], found["litellm"].values()):
        assert set(texts) == {chats["whole"]}


def test_models(found: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    for package, version in peer("openai").versions().items():
        record_property(package.partition("/")[2], version)
    assert found["models"] == [*NAMES, "base"]


def test_errors_are_those_of_the_clients_classes(found: dict[str, Any]) -> None:
    assert found["errors"] == {
        "model": ["NotFoundError", 404, "model", "model_not_found"],
        "retrieved": ["NotFoundError", 404, "model", "model_not_found"],
        "length": ["UnprocessableEntityError", 422, "max_completion_tokens", None],
        "field": ["UnprocessableEntityError", 422, "colour", None],
        "stream": ["UnprocessableEntityError", 422, "max_tokens", None],
        "large": ["APIStatusError", 413, None, "payload_too_large"],
    }


def test_a_pydantic_class_and_a_tool_are_filled(found: dict[str, Any]) -> None:
    structured = found["structured"]
    assert structured["parsed"] is True
    assert structured["calls"] and all(call["city"] in ("Oslo", "Paris") for call in structured["calls"])
    assert structured["streamed"] == [json.dumps(call) for call in structured["calls"]]
    assert (structured["reason"], structured["following"]) == ("tool_calls", "length")
