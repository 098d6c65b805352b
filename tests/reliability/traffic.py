"""Clients that ask adapters which tell what they are, all the time, and check every answer."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.fixtures.telling_adapters import Telling

TOLERANCE = 1e-3
Ask = Callable[["Traffic", httpx.Client, str], None]


@dataclass
class Traffic:
    """What clients saw."""

    known: dict[str, Telling] = field(default_factory=dict)
    """Versions that may answer, by sha256."""
    going: set[str] = field(default_factory=set)
    """Adapters that come and go, so that 404 is right as well."""
    answers: int = 0
    missing: int = 0
    """Right answers, and right 404."""
    seconds: list[float] = field(default_factory=list)
    """Time of each request."""
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, telling: Telling) -> Telling:
        """Let a version answer."""
        self.known[telling.sha256] = telling
        return telling

    def check(self, name: str, response: httpx.Response, found: Callable[[Telling], str], seconds: float) -> None:
        """Take an answer down; `found` returns what is wrong with it, or nothing."""
        sha256 = response.headers.get("x-adapter-sha256", "")
        if response.status_code == 404 and name in self.going:
            fault, answered = "", 0
        elif response.status_code != 200:
            fault, answered = f"{response.status_code} {response.text[:300]}", 0
        elif response.headers["x-adapter"] != name or sha256 not in self.known:
            fault, answered = f"answered by {response.headers['x-adapter']} {sha256[:12]}", 0
        else:
            telling = self.known[sha256]
            fault, answered = ("" if telling.name == name else f"sha256 of {telling.name}") or found(telling), 1
        with self.lock:
            self.seconds.append(seconds)
            self.answers += answered
            self.missing += response.status_code == 404
            if fault:
                self.wrong.append(f"{name}: {fault}")


def ask_classifier(traffic: Traffic, client: httpx.Client, name: str) -> None:
    """Ask for raw scores."""
    body = {"inputs": "good", "adapter": name, "raw_scores": True}
    started = time.monotonic()
    response = client.post("/predict", json=body)
    traffic.check(name, response, lambda one: _fault_of_scores(response.json(), one), time.monotonic() - started)


def ask_writer(traffic: Traffic, client: httpx.Client, name: str) -> None:
    """Ask for a text, in one piece or as a stream."""
    length, streams = random.randint(4, 24), random.random() < 0.5
    body = {"model": name, "prompt": "say", "max_tokens": length, "temperature": 0, "ignore_eos": True}
    started = time.monotonic()
    response = client.post("/v1/completions", json={**body, "stream": streams})
    text = _text_of(response, streams=streams) if response.status_code == 200 else ""

    def fault(one: Telling) -> str:
        return "" if text == one.letter * length else f"wrote {text!r}, not {one.letter!r} {length} times"

    traffic.check(name, response, fault, time.monotonic() - started)


@contextmanager
def clients(
    traffic: Traffic, address: str, names: Callable[[], Sequence[str]], ask: Ask, *, count: int = 4
) -> Iterator[None]:
    """Ask for one of `names` after the other until the block ends, with so many clients."""
    ended = threading.Event()

    def work() -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not ended.is_set():
                name = random.choice(names())
                try:
                    ask(traffic, client, name)
                except Exception as error:  # a client's thread must not end in silence
                    with traffic.lock:
                        traffic.wrong.append(f"{name}: {error!r}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def _fault_of_scores(body: Any, one: Telling) -> str:
    found = {entry["label"]: entry["score"] for entry in body}
    if set(found) != set(one.labels):
        return f"labels {sorted(found)}, not {sorted(one.labels)}"
    if not np.allclose([found[label] for label in one.labels], one.logits, rtol=0, atol=TOLERANCE):
        return f"logits {found}, not {dict(zip(one.labels, one.logits, strict=True))}"
    return ""


def _text_of(response: httpx.Response, *, streams: bool) -> str:
    if not streams:
        return str(response.json()["choices"][0]["text"])
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", response.text[-300:]
    return "".join(choice["text"] for event in events[:-1] for choice in json.loads(event)["choices"])
