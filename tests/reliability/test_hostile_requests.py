"""Requests and adapters that ask for too much: only that request fails, and those beside it are answered right.

One server has both engines. While a hostile request runs, and after it, others ask classifiers and writers that tell
what they are.
"""

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file, save_file

from serve.bundle.adapter import WEIGHTS, read_adapter, write_card
from serve.bundle.checked_json import file_sha256
from tests.fixtures.byte_decoder import byte_tokenizer
from tests.fixtures.hand_computed_decoder import write_decoder_bundle
from tests.fixtures.telling_adapters import (
    LETTERS,
    OUTLIER,
    OUTLIER_LETTER,
    classifier_reference,
    write_classifier,
    write_writer,
    writer_base,
)
from tests.reliability.conftest import Server, serve
from tests.reliability.traffic import Ask, Traffic, ask_classifier, ask_writer, clients
from tests.serve.conftest import WORDS, Reference, write_bundle

MEGABYTE = 1_000_000
QUICK_SECONDS = 5.0
FEW = 10
"""Answers to others before a hostile request, and after it."""
SCHEMA_SECONDS = 30.0
"""The budget of a schema is two seconds of its own process's work, one schema after the other."""
ASKERS: dict[str, Ask] = {"tone2": ask_classifier, "intent2": ask_classifier, "first": ask_writer, "second": ask_writer}
SLOW_SCHEMA: dict[str, Any] = {"allOf": [{"type": "string", "pattern": f".*a{number}.*"} for number in range(20)]}
"""A text that all of these patterns allow is sought among some 2^20."""
MANY_STOPS = [f"{number:05d}" for number in range(10_000)]


@dataclass
class Both:
    """A server of classifiers and writers."""

    server: Server
    traffic: Traffic
    root: Path
    """Folder of --adapter-dir."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> Iterator[Both]:
    folder, traffic = tmp_path_factory.mktemp("both"), Traffic()
    root, classifiers, writers = folder / "adapters", classifier_reference(reference), writer_base()
    bundles = [
        write_bundle(folder / "classifiers", classifiers, ["tone"]),
        write_decoder_bundle(folder / "writers", writers, tokenizer=byte_tokenizer(), max_position_embeddings=1024),
    ]
    words, letters = (file_sha256(bundle / "tokenizer.json") for bundle in bundles)
    for name in ("tone2", "intent2"):
        traffic.add(write_classifier(root / name, classifiers, name, 1, words))
    write_classifier(root / "nan", classifiers, "nan", 1, words, overflows=True)
    for place, name in enumerate(("first", "second", "endless")):
        traffic.add(write_writer(root / name, writers, name, LETTERS[place], letters))
    write_writer(root / "nan-writer", writers, "nan-writer", LETTERS[9], letters, overflows=True)
    flags = ("--adapter-dir", root, "--adapter-watch", 60, "--max-queue-secs", 60, "--max-batch-requests", 8)
    with serve(*bundles, *flags) as server:
        yield Both(server, traffic, root)


def ask_any(traffic: Traffic, client: httpx.Client, name: str) -> None:
    """Ask a classifier or a writer."""
    ASKERS[name](traffic, client, name)


def completion(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"model": name, "prompt": "say", "max_tokens": 8, "temperature": 0, **fields}


def prediction(name: str, text: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "/predict", {"inputs": text, "adapter": name, **fields}


@dataclass(frozen=True)
class Hostile:
    """A hostile request and its answer."""

    path_and_body: tuple[str, dict[str, Any]]
    status: int
    message: str = ""
    count: int = 4
    """Requests at a time."""
    seconds: float = QUICK_SECONDS
    """Time in which they are answered, on a busy machine."""


HOSTILE: dict[str, Hostile] = {
    "a classifier that is not finite": Hostile(
        prediction("nan", WORDS[OUTLIER]), 500, "adapter nan gives logits that are not finite"
    ),
    "a text through several adapters of which one is not finite": Hostile(
        ("/predict", {"inputs": [["good"], [WORDS[OUTLIER]]], "adapter": ["tone2", "nan"]}), 500, "not finite"
    ),
    "a writer that is not finite": Hostile(
        completion("nan-writer", prompt=f"say {OUTLIER_LETTER}"), 500, "nan-writer gives logits that are not finite"
    ),
    "a writer that never ends": Hostile(completion("endless", max_tokens=900), 200, '"finish_reason":"length"'),
    "a writer that never ends, longer than the context": Hostile(
        completion("endless", max_tokens=100_000), 422, "max_tokens"
    ),
    "a schema that takes seconds": Hostile(
        completion("first", response_format={"type": "json_schema", "json_schema": {"schema": SLOW_SCHEMA}}),
        422,
        "to compile: simplify it",
        count=2,
        seconds=SCHEMA_SECONDS,
    ),
    "a prompt of a megabyte": Hostile(completion("first", prompt="good " * (MEGABYTE // 5)), 422, "characters"),
    "a text of a megabyte": Hostile(prediction("tone2", "good " * (MEGABYTE // 5)), 422, "characters"),
    "a text of a megabyte, in windows": Hostile(
        prediction("tone2", "good " * (MEGABYTE // 5), windows=True), 422, "characters"
    ),
    "a text of a megabyte in one word, cut": Hostile(
        prediction("tone2", "g" * MEGABYTE, truncate=True), 422, "characters"
    ),
    "a body of several megabytes": Hostile(prediction("tone2", "good " * MEGABYTE), 413, "bytes"),
    "ten thousand stops": Hostile(completion("first", stop=MANY_STOPS), 422, "stop"),
    "a stop of a megabyte": Hostile(completion("first", stop=["x" * MEGABYTE]), 422, "stop"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_only_the_hostile_request_fails(kind: str, both: Both, figure: Callable[[str], None]) -> None:
    hostile, traffic, address = HOSTILE[kind], Traffic(known=both.traffic.known), both.server.address
    (path, body), lines = hostile.path_and_body, len(both.server.log)
    with clients(traffic, address, lambda: list(ASKERS), ask_any, count=3):
        wait_for_answers(traffic, FEW)
        quiet = len(traffic.seconds)
        statuses, texts, seconds = hostile_answers(address, path, body, hostile.count)
        beside = traffic.seconds[quiet:]
        wait_for_answers(traffic, len(traffic.seconds) + FEW)
    assert statuses == [hostile.status] * hostile.count, texts[0][:500]
    assert all(hostile.message in text for text in texts), texts[0][:500]
    assert not traffic.wrong, "\n".join(traffic.wrong[:10])
    assert max(seconds) < hostile.seconds
    assert not [line for line in both.server.log[lines:] if "Exception in ASGI" in line]
    figure(
        f"{kind}: {hostile.count} at once are {hostile.status} after at most {max(seconds):.2f} s; beside them "
        f"{len(beside)} right answers, median {statistics.median(beside or [0]) * 1e3:.0f} ms, slowest "
        f"{max(beside or [0]) * 1e3:.0f}; before them {statistics.median(traffic.seconds[:quiet]) * 1e3:.0f}"
    )


def test_an_adapter_of_values_that_are_no_numbers_is_not_loaded(both: Both, tmp_path: Path) -> None:
    """Neither one whose weights are NaN, nor one whose card keeps NaN as the logits of its canary rows."""
    with httpx.Client(base_url=both.server.address, timeout=30) as client:
        for number, fields in enumerate(({"canary_logits": [[math.nan, 0.0]]}, {})):
            folder = both.root / f"broken{number}"
            shutil.copytree(both.root / "tone2", folder)
            card = read_adapter(folder).card
            tensors = {name: tensor * math.nan for name, tensor in load_file(folder / WEIGHTS).items()}
            save_file(tensors, folder / WEIGHTS)
            sha256 = file_sha256(folder / WEIGHTS)
            write_card(folder, replace(card, name=folder.name, sha256=sha256, **fields))
            response = client.post("/v2/repository/models/" + folder.name + "/load")
            assert response.status_code == 422
            assert "does not give the logits" in response.text or "finite" in response.text, response.text
        traffic = Traffic(known=both.traffic.known)
        for name in ASKERS:
            ask_any(traffic, client, name)
    assert (traffic.answers, traffic.wrong) == (len(ASKERS), [])


def wait_for_answers(traffic: Traffic, count: int) -> None:
    """Wait until so many requests have been answered."""
    deadline = time.monotonic() + SCHEMA_SECONDS
    while len(traffic.seconds) < count:
        assert time.monotonic() < deadline, "nobody is answered beside it"
        time.sleep(0.02)


def hostile_answers(
    address: str, path: str, body: dict[str, Any], count: int
) -> tuple[list[int], list[str], list[float]]:
    """Send a request so many times at once, and return the statuses, the bodies and the times of the answers."""
    content = json.dumps(body)

    def send(_: int) -> tuple[int, str, float]:
        started = time.monotonic()
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{address}{path}", content=content, headers=headers, timeout=60)
        return response.status_code, response.text, time.monotonic() - started

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(send, range(count)))
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]
