"""langchain-openai and llama-index-llms-openai-like against a live server."""

from pathlib import Path
from typing import Any

import pytest

from serve.generation.generator import Generator
from serve.requests import Chat
from serve.sampling_params import SamplingParams
from tests.interop.conftest import Ask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generator(writer_folder: Path) -> Generator:
    """The engine by itself."""
    return Generator(writer_folder, provider="cpu", threads=1)


def test_chats_streams_and_completions_are_those_of_the_engine(ask: Ask, writer: str, generator: Generator) -> None:
    found: dict[str, dict[str, Any]] = ask("frameworks", writer)
    prompt = generator.prompt(Chat(messages=[{"role": "user", "content": "Rain?"}]), "base")
    (chat,) = generator.generate([prompt], sampling=SamplingParams(max_new_tokens=6, ignore_eos=True))
    (completion,) = generator(["ab"], adapter="north", sampling=SamplingParams(max_new_tokens=6))
    langchain, llama_index = found["langchain"], found["llama_index"]
    for one in (langchain, llama_index):
        assert one["whole"].strip() == chat.text.strip()
        assert one["streamed"] == one["async"] == one["whole"]
        assert one["completion"].strip() == completion.text
    assert langchain["batch"] == [langchain["whole"]] * 3
    assert langchain["usage"]["output_tokens"] == 6
    assert langchain["parsed"] in (True, False)
    assert langchain["calls"] == ["weather"]
