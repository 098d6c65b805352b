"""Bundles to damage, and a server that runs meanwhile."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import onnx
import pytest

from tests.fixtures.byte_decoder import write_byte_bundle
from tests.serve.conftest import Reference, reference, relist, write_bundle

__all__ = ["reference"]

CONFIG = {"model_type": "tiny", "vocab_size": 11, "max_position_embeddings": 48}
START_SECONDS = 60
ADDRESS = re.compile(r"on (https?://\S+)")


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Path:
    """A bank of two classifiers with all files that a bundle may have."""
    folder = write_bundle(tmp_path_factory.mktemp("classifier") / "bundle", reference, ["tone", "intent"])
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]", "model_max_length": 8}))
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=128)
    return relist(folder)


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of three generators over a base with a chat template."""
    folder = write_byte_bundle(tmp_path_factory.mktemp("generator") / "bundle", "{{ messages[0].content }}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2]}))
    return relist(folder)


@dataclass
class Server:
    """A process of adamix-serve."""

    process: "subprocess.Popen[str]"
    log: list[str] = field(default_factory=list)
    """Lines that it has written."""
    address: str = ""

    def ask(self, adapter: str = "tone") -> httpx.Response:
        """Classify a text."""
        return httpx.post(f"{self.address}/predict", json={"inputs": "good", "adapter": adapter}, timeout=30)


Serve = Callable[..., contextlib.AbstractContextManager[Server]]


@contextlib.contextmanager
def serve(*arguments: object, limit: Callable[[], None] | None = None, **environment: str) -> Iterator[Server]:
    """Serve on a free port until the block ends; `limit` is called in the process before it begins."""
    command = [sys.executable, "-m", "serve.cli", *map(str, arguments), "--port", "0", "--provider", "cpu"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        preexec_fn=limit,
    )
    server, started = Server(process), threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.log.append(line.rstrip())
            if found := ADDRESS.search(line):
                server.address = found[1]
                started.set()
        started.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert started.wait(START_SECONDS) and server.address, "\n".join(server.log)
        yield server
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        reader.join(START_SECONDS)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keep a figure for the end of the run, and for the report of JUnit's form."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests kept."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, text in report.user_properties:
            if name == "figure" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
