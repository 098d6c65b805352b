"""The Kubernetes Gateway API Inference Extension's model server protocol (proposal 003), requirement by requirement.

"The exact metric names don't necessarily need to be the same as the recommended names here, however the metric types
and semantics MUST follow this doc." So every requirement is tested under our own names and under vLLM's, which the
endpoint picker reads by default.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.hand_computed_decoder import NAMES
from tests.interop.conftest import serving

pytestmark = pytest.mark.slow
LONG = {"model": "north", "prompt": "ab", "max_tokens": 900, "ignore_eos": True}
SLOTS = 2


@dataclass(frozen=True)
class PickerMapping:
    """Names of the metrics that an endpoint picker reads, as its configuration maps them."""

    queued_requests: str
    running_requests: str
    kv_usage: str
    lora_info: str


MAPPINGS = {
    "vllm": PickerMapping(
        queued_requests="vllm:num_requests_waiting",
        running_requests="vllm:num_requests_running",
        kv_usage="vllm:kv_cache_usage_perc",
        lora_info="vllm:lora_requests_info",
    ),
    "adamix": PickerMapping(
        queued_requests="adamix_queue_rows",
        running_requests="adamix_running_rows",
        kv_usage="adamix_kv_cache_usage",
        lora_info="adamix_lora_requests_info",
    ),
}


@pytest.fixture(scope="module")
def server(writer_folder: Path) -> Iterator[str]:
    """Address of a server with three adapters, two slots, one row, and both sets of names."""
    flags = ("--metrics", "adamix", "--metrics", "vllm", "--slots", SLOTS, "--max-batch-requests", 1)
    with serving(writer_folder, *flags) as address:
        yield address


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture(params=MAPPINGS)
def names(request: pytest.FixtureRequest) -> PickerMapping:
    """The names that the picker is configured with."""
    return MAPPINGS[request.param]


def metric(client: httpx.Client, name: str) -> tuple[str, dict[str, str], float]:
    """Type, labels and value of a metric of one series."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [one for one in families if one.name == name]
    (sample,) = family.samples
    return family.type, sample.labels, sample.value


def adapters(labels: dict[str, str], name: str) -> set[str]:
    """The names in a label, split as strictly as any picker splits them: at commas, no spaces taken away."""
    return set(labels[name].split(",")) - {""}


def idle(client: httpx.Client) -> None:
    """Wait until nothing runs: a row is given back after its response."""
    while metric(client, "adamix_running_rows")[2]:
        time.sleep(0.01)


def test_completions_and_chats_of_openai_are_implemented(client: httpx.Client) -> None:
    """Inference API: the model server MUST implement OpenAI's Completions and Chat APIs."""
    completion = client.post("/v1/completions", json={"model": "north", "prompt": "ab", "max_tokens": 3})
    assert completion.json()["object"] == "text_completion"
    messages = [{"role": "user", "content": "Rain?"}]
    chat = client.post("/v1/chat/completions", json={"model": "base", "messages": messages, "max_tokens": 3})
    assert chat.json()["object"] == "chat.completion"


def test_the_queue_the_running_requests_and_the_cache_are_gauges(client: httpx.Client, names: PickerMapping) -> None:
    """Metrics: MUST have TotalQueuedRequests, TotalRunningRequests and KVCacheUtilization, gauges of now."""
    idle(client)
    for name in (names.queued_requests, names.running_requests, names.kv_usage):
        kind, _, value = metric(client, name)
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


def test_adapters_in_slots_are_the_labels_of_a_gauge_whose_value_is_the_time(
    client: httpx.Client, names: PickerMapping
) -> None:
    """LoRA: a gauge MUST have the time of its update, and max_lora, running_ and waiting_lora_adapters as labels.

    Those that run are "currently loaded in GPU memory and ready to serve requests"; max_lora is how many can be.
    """
    for name in ("west", "south"):
        client.post("/v1/completions", json={**LONG, "model": name, "max_tokens": 1})
    kind, labels, value = metric(client, names.lora_info)
    assert kind == "gauge" and value == pytest.approx(time.time(), abs=5)
    assert labels.keys() == {"max_lora", "running_lora_adapters", "waiting_lora_adapters"}
    assert int(labels["max_lora"]) == SLOTS
    assert adapters(labels, "running_lora_adapters") == {"west", "south"}
    assert adapters(labels, "waiting_lora_adapters") == set()


def test_a_request_that_waits_is_queued_and_its_adapter_waits(
    client: httpx.Client, server: str, names: PickerMapping
) -> None:
    """All of them, while one request has the only row and another waits for it."""

    def ask(name: str) -> None:
        httpx.post(f"{server}/v1/completions", json={**LONG, "model": name}, timeout=60)

    asking = [threading.Thread(target=ask, args=(name,)) for name in ("north", "west")]
    for thread in asking:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in asking):
        scrape = {one.name: one.samples[0] for one in text_string_to_metric_families(client.get("/metrics").text)}
        counts = (scrape[names.queued_requests].value, scrape[names.running_requests].value)
        labels, usage = scrape[names.lora_info].labels, scrape[names.kv_usage].value
        waiting = adapters(labels, "waiting_lora_adapters")
        running = adapters(labels, "running_lora_adapters")
        if counts == (1, 1) and len(waiting) == 1:
            (other,) = {"north", "west"} - waiting
            seen.add((other in running, usage))
    assert (True, 902 / 16_384) in seen
    idle(client)
