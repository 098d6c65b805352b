"""A server process whose clock is set back an hour while it runs: it serves on, and rates and deadlines hold."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.reliability.both_engines import serve_both
from tests.serve.conftest import Reference

HOUR = 3600
A_MINUTE = 30
"""Requests that a key may send."""
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
"""Debian's package libfaketime, which sets the clock of the whole process and not of Python alone."""
SITE = """
import os, time
_time, _time_ns = time.time, time.time_ns
def _offset():
    with open(os.environ["CLOCK"]) as file:
        return float(file.read() or 0)
time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1e9)
"""


def of_python(folder: Path) -> tuple[dict[str, str], Callable[[int], None]]:
    """Return the environment of a process and how to set its clock, by a module that Python imports at its start."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    clock = folder / "clock"
    clock.write_text("0")
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "CLOCK": str(clock)}, lambda seconds: _write(clock, str(seconds))


def of_the_process(folder: Path) -> tuple[dict[str, str], Callable[[int], None]]:
    """Return the same for every library of the process, by libfaketime; the monotonic clock goes on, as it does."""
    found = os.environ.get("ADAMIX_LIBFAKETIME") or next(map(str, LIBRARIES), None)
    if found is None:
        pytest.skip("libfaketime is not installed: apt-get install libfaketime")
    clock = folder / "clock"
    clock.write_text("+0")
    environment = {"LD_PRELOAD": found, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    return {**environment, "DONT_FAKE_MONOTONIC": "1"}, lambda seconds: _write(clock, f"{seconds:+d}")


def _write(file: Path, text: str) -> None:
    """Replace a file at once, so that no reader sees half of it."""
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


@pytest.mark.parametrize("kind", [of_python, of_the_process], ids=lambda kind: kind.__name__)
def test_a_clock_that_is_set_back_under_a_running_server(
    kind: Callable[[Path], tuple[dict[str, str], Callable[[int], None]]], tmp_path: Path, reference: Reference
) -> None:
    environment, set_clock = kind(tmp_path)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("limited", "free")}
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[limited]\nsha256 = "{hashes["limited"]}"\nrequests_per_minute = {A_MINUTE}\n'
        f'[free]\nsha256 = "{hashes["free"]}"\nadmin = true\n'
    )
    with (
        serve_both(tmp_path / "bundles", reference, "--api-keys", keys, environment=environment) as server,
        httpx.Client(base_url=server.address, timeout=30) as client,
    ):

        def ask(key: str) -> httpx.Response:
            body = {"inputs": "good", "adapter": "tone"}
            return client.post("/predict", json=body, headers={"Authorization": f"Bearer {key}"})

        free = {"Authorization": "Bearer free"}
        before, created = ask("free").json(), completion(client, free)["created"]
        assert len(until_refused(lambda: ask("limited"))) > A_MINUTE
        lines: list[str] = []
        reader = threading.Thread(target=read_stream, args=(server.address, free, lines))
        reader.start()
        wait_for(lambda: len(lines) > 2)
        set_clock(-HOUR)
        told = completion(client, free)["created"] - created
        assert -HOUR - 5 < told < -HOUR + 60, "the process does not see it"
        reader.join(60)
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line and "[DONE]" not in line]
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert ask("free").json() == before
        refused = until_refused(lambda: ask("limited"))
        assert len(refused) < A_MINUTE
        seconds = int(refused[-1].headers["retry-after"])
        assert 1 <= seconds <= 60 / A_MINUTE + 1
        time.sleep(60 / A_MINUTE + 0.2)
        assert ask("limited").status_code == 200
        started = time.monotonic()
        late = client.post(
            "/v1/completions",
            json={"model": "north", "prompt": "a", "max_tokens": 900, "ignore_eos": True},
            headers={**free, "X-Request-Timeout": "0.05"},
        )
        assert late.status_code == 504
        assert time.monotonic() - started < 5
        load = {"lora_name": "intent", "lora_path": "intent"}
        assert client.post("/v1/load_lora_adapter", json=load, headers=free).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics", headers=free).status_code == 200


def until_refused(ask: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Ask until the key has used up its minute, a part of which comes back meanwhile."""
    found: list[httpx.Response] = []
    while not found or found[-1].status_code == 200:
        assert len(found) < 3 * A_MINUTE
        found.append(ask())
    assert found[-1].status_code == 429
    return found


def completion(client: httpx.Client, headers: dict[str, str]) -> dict[str, int]:
    body = {"model": "north", "prompt": "a", "max_tokens": 2}
    found: dict[str, int] = client.post("/v1/completions", json=body, headers=headers).json()
    return found


def read_stream(address: str, headers: dict[str, str], lines: list[str]) -> None:
    body = {"model": "north", "prompt": "a", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{address}/v1/completions", json=body, headers=headers, timeout=60) as response:
        for line in response.iter_lines():
            lines.append(line)


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
