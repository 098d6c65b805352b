"""JavaScript's openai on Node against a live server."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.peers import ENVIRONMENTS, HERE
from serve.generation.generator import Generator
from serve.requests import Chat
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import NAMES

PACKAGES = ENVIRONMENTS / "node"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(
        not (PACKAGES / "node_modules" / "openai").is_dir(), reason="npm install --prefix .venv-peers/node openai"
    ),
]


def test_models_texts_streams_and_errors(
    writer: str, writer_folder: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file = tmp_path / "found.json"
    command = ["node", str(HERE / "openai_client.mjs"), str(PACKAGES), writer, str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    found = json.loads(file.read_text())
    record_property("openai (JavaScript)", found["version"])
    generator = Generator(writer_folder, provider="cpu", threads=1)
    prompt = generator.prompt(Chat(messages=[{"role": "user", "content": "Rain?"}]), "base")
    (chat,) = generator.generate([prompt], sampling=SamplingParams(max_new_tokens=6, ignore_eos=True))
    (completion,) = generator(["ab"], adapter="north", sampling=SamplingParams(max_new_tokens=6))
    assert found["models"] == [*NAMES, "base"]
    assert found["whole"] == found["streamed"] and found["whole"].strip() == chat.text.strip()
    assert found["completion"].strip() == completion.text
    assert found["errors"] == {"model": [True, False, 404, "model"], "field": [False, True, 422, "colour"]}
