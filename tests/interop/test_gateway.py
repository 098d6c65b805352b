"""The Kubernetes Gateway API Inference Extension's model server protocol (proposal 003), requirement by requirement."""

import re
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.fixtures.hand_computed_decoder import NAMES

pytestmark = pytest.mark.slow
LONG = {"model": "north", "prompt": "ab", "max_tokens": 900, "ignore_eos": True}


@pytest.fixture
def client(writer: str) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=writer, timeout=60) as client:
        yield client


def metric(client: httpx.Client, name: str) -> tuple[str, str, float]:
    """Type, labels and value of a metric of one series."""
    text = client.get("/metrics").text
    kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
    series = re.search(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    assert kind is not None and series is not None, text
    return kind[1], series[1] or "", float(series[2])


def test_completions_and_chats_of_openai_are_implemented(client: httpx.Client) -> None:
    """Inference API: the model server MUST implement OpenAI's Completions and Chat APIs."""
    completion = client.post("/v1/completions", json={"model": "north", "prompt": "ab", "max_tokens": 3})
    assert completion.json()["object"] == "text_completion"
    messages = [{"role": "user", "content": "Rain?"}]
    chat = client.post("/v1/chat/completions", json={"model": "base", "messages": messages, "max_tokens": 3})
    assert chat.json()["object"] == "chat.completion"


def test_the_queue_and_the_cache_are_gauges(client: httpx.Client) -> None:
    """Metrics: a Prometheus endpoint MUST have TotalQueuedRequests and KVCacheUtilization, both gauges of now."""
    kind, _, value = metric(client, "adamix_queue_rows")
    assert (kind, value) == ("gauge", 0.0)
    kind, _, value = metric(client, "adamix_kv_cache_usage")
    assert (kind, value) == ("gauge", 0.0)


def test_the_adapter_is_the_model_of_the_request(client: httpx.Client) -> None:
    """LoRA: model servers MUST serve the adapter that the argument `model` names, if it is valid."""
    texts = set()
    for name in NAMES:
        answer = client.post("/v1/completions", json={**LONG, "model": name, "max_tokens": 8})
        assert answer.headers["x-adapter"] == answer.json()["model"] == name
        texts.add(answer.json()["choices"][0]["text"])
    assert len(texts) == len(NAMES)
    assert client.post("/v1/completions", json={**LONG, "model": "east"}).status_code == 404


def test_running_adapters_are_the_labels_of_a_gauge_whose_value_is_the_time(client: httpx.Client, writer: str) -> None:
    """LoRA: a gauge MUST have the time of its update, with max_lora, running_ and waiting_lora_adapters as labels."""
    kind, labels, value = metric(client, "adamix_lora_requests_info")
    assert kind == "gauge" and value == pytest.approx(time.time(), abs=5)
    assert labels == f'max_lora="{len(NAMES)}",running_lora_adapters="",waiting_lora_adapters=""'
    asking = threading.Thread(target=lambda: httpx.post(f"{writer}/v1/completions", json=LONG, timeout=60))
    asking.start()
    seen: set[tuple[str, bool]] = set()
    while asking.is_alive():
        labels, usage = metric(client, "adamix_lora_requests_info")[1], metric(client, "adamix_kv_cache_usage")[2]
        seen.add((labels.split('running_lora_adapters="')[1].split('"')[0], 0 < usage < 1))
    assert ("north", True) in seen
