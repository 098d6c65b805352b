"""Requests with a schema that costs too much, over HTTP."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.errors import Draining, InputError
from serve.generation.async_text_generator import AsyncGenerator
from serve.generation.generator import Generator
from serve.generation.sampling.params import Sampling
from serve.generation.sampling.schema_trials import CompileBudget
from serve.http.app import make_app
from tests.fixtures.hand_computed_decoder import make_writer, write_writer
from tests.serve.conftest import live_app
from tests.serve.generation.sampling.test_schema_trials import ENDLESS, eventually, runs

FORMAT = {"type": "json_schema", "json_schema": {"schema": ENDLESS}}
BODY = {"model": "north", "prompt": "good bad", "max_tokens": 3}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_writer(tmp_path_factory.mktemp("writer") / "bundle", make_writer())


def served(bundle: Path, seconds: float) -> Generator:
    return Generator(bundle, provider="cpu", threads=1, budget=CompileBudget(seconds=seconds, megabytes=4096))


@pytest.fixture
def slow(bundle: Path) -> Generator:
    """A generator that would compile for ever."""
    return served(bundle, 600)


@pytest.fixture
def client(slow: Generator) -> Iterator[httpx.Client]:
    with live_app(make_app(AsyncGenerator(slow))) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_refused_in_words_that_help(bundle: Path, stream: bool) -> None:
    generator = served(bundle, 0.3)
    with live_app(make_app(AsyncGenerator(generator))) as client:
        found = client.post("/v1/completions", json={**BODY, "response_format": FORMAT, "stream": stream})
    assert found.status_code == 422
    assert found.json()["error"].startswith("json_schema takes more than 0.3 s to compile: simplify it")
    with pytest.raises(InputError, match=r"more than 0\.3 s to compile"):
        generator("good", adapter="north", sampling=Sampling(json_schema=ENDLESS))
    with pytest.raises(InputError, match=r"more than 0\.3 s to compile"):
        next(generator.stream("good", adapter="north", sampling=Sampling(json_schema=ENDLESS)))
    assert not generator.guides.compiling


def test_others_are_answered_meanwhile_and_a_client_that_leaves_ends_it(client: httpx.Client, slow: Generator) -> None:
    def ask() -> None:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/completions", json={**BODY, "response_format": FORMAT}, timeout=httpx.Timeout(2))

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for one in clients:
        one.start()
    eventually(lambda: len(slow.guides.compiling) == 8)
    workers = [trial.worker.pid for trial in slow.guides.compiling if trial.worker is not None]
    assert len(workers) <= 2
    assert client.get("/health").status_code == 200
    found = client.post("/v1/completions", json=BODY)
    assert found.status_code == 200 and found.json()["choices"][0]["text"]
    for one in clients:
        one.join()
    eventually(lambda: not slow.guides.compiling)
    eventually(lambda: not any(runs(pid) for pid in workers))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_in_its_time_and_so_do_its_processes(bundle: Path, number: int) -> None:
    command = [sys.executable, "-m", "serve.cli", bundle, "--provider", "cpu", "--no-cache", "--threads", "1"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--exit-timeout-secs", "1"], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stderr is not None
    port = next(line for line in server.stderr if " on http" in line).rpartition(":")[2].strip()
    statuses: list[int] = []

    def ask() -> None:
        body = {**BODY, "response_format": FORMAT}
        statuses.append(httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=30).status_code)

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    eventually(lambda: children(server.pid))
    workers = children(server.pid)
    server.send_signal(number)
    _, log = server.communicate(timeout=20)
    for client in clients:
        client.join()
    assert server.returncode == 0
    assert set(statuses) <= {422, 503} and len(statuses) == 6
    assert "Traceback" not in log
    eventually(lambda: not any(runs(pid) for pid in workers))


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


async def _started(slow: Generator) -> None:
    while not any(trial.worker for trial in slow.guides.compiling):
        await asyncio.sleep(0.01)


def test_a_program_that_ends_its_engine_is_told(slow: Generator) -> None:
    async def ask() -> None:
        async with AsyncGenerator(slow) as engine:
            asked = asyncio.create_task(engine("good", adapter="north", sampling=Sampling(json_schema=ENDLESS)))
            await _started(slow)
        with pytest.raises(Draining, match="the server is stopping"):
            await asked
        with pytest.raises(Draining):
            await engine("good", adapter="north", sampling=Sampling(json_schema=ENDLESS))
        assert not slow.guides.trials.idle

    asyncio.run(ask())
