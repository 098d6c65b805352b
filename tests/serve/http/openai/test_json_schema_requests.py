"""Requests with a schema that costs too much, over HTTP."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.errors import InputError
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.generation.sampling.schema_trials import CompileBudget
from serve.http.app import make_app
from serve.sampling_params import SamplingParams
from tests.fixtures.hand_computed_decoder import random_decoder, write_decoder_bundle
from tests.serve.conftest import live_app
from tests.serve.generation.sampling.test_schema_trials import ENDLESS, eventually, runs

pytestmark = pytest.mark.slow

FORMAT = {"type": "json_schema", "json_schema": {"schema": ENDLESS}}
BODY = {"model": "north", "prompt": "good bad", "max_tokens": 3}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder_bundle(tmp_path_factory.mktemp("decoder") / "bundle", random_decoder())


def served(bundle: Path, seconds: float) -> Generator:
    return Generator(bundle, provider="cpu", threads=1, compile_budget=CompileBudget(seconds=seconds, megabytes=4096))


@pytest.fixture
def slow(bundle: Path) -> Generator:
    """A generator that would compile for ever."""
    return served(bundle, 600)


@pytest.fixture
def client(slow: Generator) -> Iterator[httpx.Client]:
    with live_app(make_app(AsyncTextGenerator(slow))) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_refused_in_words_that_help(bundle: Path, stream: bool) -> None:
    generator = served(bundle, 0.3)
    with live_app(make_app(AsyncTextGenerator(generator))) as client:
        found = client.post("/v1/completions", json={**BODY, "response_format": FORMAT, "stream": stream})
    assert found.status_code == 422
    assert found.json()["error"]["message"].startswith("response_format takes more than 0.3 s to compile: simplify it")
    with pytest.raises(InputError, match=r"more than 0\.3 s to compile"):
        generator("good", adapter="north", sampling=SamplingParams(json_schema=ENDLESS))
    with pytest.raises(InputError, match=r"more than 0\.3 s to compile"):
        next(generator.stream("good", adapter="north", sampling=SamplingParams(json_schema=ENDLESS)))
    assert found.json()["error"]["param"] == "response_format"
    assert not generator.grammars.compiling


def test_others_are_answered_meanwhile_and_a_client_that_leaves_ends_it(client: httpx.Client, slow: Generator) -> None:
    def ask() -> None:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/completions", json={**BODY, "response_format": FORMAT}, timeout=httpx.Timeout(2))

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for one in clients:
        one.start()
    eventually(lambda: len(slow.grammars.compiling) == 8)
    workers = [trial.worker.pid for trial in slow.grammars.compiling if trial.worker is not None]
    assert len(workers) <= 2
    assert client.get("/health").status_code == 200
    found = client.post("/v1/completions", json=BODY)
    assert found.status_code == 200 and found.json()["choices"][0]["text"]
    for one in clients:
        one.join()
    eventually(lambda: not slow.grammars.compiling)
    eventually(lambda: not any(runs(pid) for pid in workers))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_in_its_time_and_so_do_its_processes(bundle: Path, number: int) -> None:
    command = [sys.executable, "-m", "serve.cli", bundle, "--provider", "cpu", "--no-cache", "--threads", "1"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--exit-timeout-secs", "1"], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stderr is not None
    port = next(line for line in server.stderr if " on http" in line).rpartition(":")[2].strip()
    statuses: list[int | None] = []

    def ask() -> None:
        body = {**BODY, "response_format": FORMAT}
        try:
            statuses.append(httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=30).status_code)
        except httpx.TransportError:  # the signal came before the server had read this request
            statuses.append(None)

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    eventually(lambda: children(server.pid))
    time.sleep(0.5)  # the other clients have connected as well
    workers = children(server.pid)
    server.send_signal(number)
    _, log = server.communicate(timeout=20)
    for client in clients:
        client.join()
    assert server.returncode == 0
    assert set(statuses) <= {422, 503, None} and len(statuses) == 6 and any(statuses)
    assert "Traceback" not in log
    eventually(lambda: not any(runs(pid) for pid in workers))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
