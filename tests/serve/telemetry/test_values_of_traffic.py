"""Metrics of both sets after requests whose tokens, waits and adapters are known: a token is a byte here."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.generation.async_text_generator import AsyncTextGenerator
from serve.generation.generator import Generator
from serve.http.app import make_app
from serve.limits import BatchLimits, GenerationLimits
from serve.telemetry.prometheus import METRIC_SETS, MetricOptions
from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.fixtures.metrics import metrics_with
from tests.serve.conftest import live_app
from tests.serve.http.conftest import Gate, gate

__all__ = ["gate"]

TOKENS_IN_FLIGHT = 4096


@dataclass
class Traffic:
    """A server with one slot, whose steps the test may make by itself, and its clients."""

    generator: Generator
    client: httpx.Client
    clients: ThreadPoolExecutor

    def ask(self, prompt: str, tokens: int, adapter: str = "north", **fields: Any) -> httpx.Response:
        """Complete a prompt with exactly so many tokens, unless the fields say otherwise."""
        body = {"model": adapter, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
        return self.client.post("/v1/completions", json={**body, **fields})

    def ask_and_leave(self, prompt: str, tokens: int) -> None:
        """Ask, close the connection after a second, and return once the server knows."""
        with httpx.Client(base_url=self.client.base_url, timeout=1) as client:
            Traffic(self.generator, client, self.clients).later(prompt, tokens)
            while not all(one.cancelled for one in self.generator.scheduler.queue.arrived):
                time.sleep(0.01)

    def later(self, *arguments: Any, **fields: Any) -> "Future[httpx.Response]":
        """Ask in another thread, and return once the request is in the queue."""
        waiting = self.generator.scheduler.waiting
        asked = self.clients.submit(self.ask, *arguments, **fields)
        while self.generator.scheduler.waiting == waiting:
            time.sleep(0.001)
        return asked

    @contextmanager
    def by_hand(self) -> Iterator[Any]:
        """Yield what makes a step; the server makes none until the block ends."""
        with self.generator.turn:
            yield self.generator.scheduler.step

    def values(self, *names: str) -> list[float]:
        """Values of samples whose one label at most is `model_name`."""
        samples = self.samples()
        return [samples[name] for name in names]

    def samples(self) -> dict[str, float]:
        """Every sample, by its name with the labels that are not `model_name`."""
        found = {}
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for one in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in one.labels.items() if key != "model_name")
                found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
        return found

    def lora(self) -> dict[str, str]:
        """Labels of the gauge of adapters, which both sets have alike."""
        text = self.client.get("/metrics").text
        found = [
            one.labels
            for family in text_string_to_metric_families(text)
            for one in family.samples
            if one.name.endswith("lora_requests_info")
        ]
        assert len(found) == 2 and found[0] == found[1]
        return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_byte_bundle(tmp_path_factory.mktemp("bytes") / "bundle", HERMES)


@pytest.fixture
def traffic(folder: Path) -> Iterator[Traffic]:
    limits = GenerationLimits(max_tokens_in_flight=TOKENS_IN_FLIGHT, timeout=2)
    generator = Generator(folder, provider="cpu", threads=1, slots=1, host_adapters=2, limits=limits)
    app = make_app(AsyncTextGenerator(generator), metrics=MetricOptions(sets=list(METRIC_SETS)))
    with live_app(app) as client, ThreadPoolExecutor(4) as clients:
        yield Traffic(generator, client, clients)


def test_tokens_of_prompts_and_of_texts_are_counted(traffic: Traffic) -> None:
    for prompt, tokens in (("a", 3), ("abcd", 5), ("abcdefgh", 1)):
        usage = traffic.ask(prompt, tokens).json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(prompt), tokens)
    found = traffic.samples()
    assert found["vllm:prompt_tokens_total"] == found["adamix_tokens_total{kind=read}"] == 13
    assert found["vllm:generation_tokens_total"] == found["adamix_tokens_total{kind=written}"] == 9
    assert (
        found["vllm:request_success_total{finished_reason=length}"] == found["adamix_ended_total{reason=length}"] == 3
    )
    assert found["adamix_rows_total{adapter=north}"] == 3
    for part in ("e2e_request_latency", "request_queue_time", "request_prefill_time", "request_decode_time"):
        assert found[f"vllm:{part}_seconds_count"] == 3
    assert found["vllm:time_to_first_token_seconds_count"] == 3
    assert found["vllm:inter_token_latency_seconds_count"] == 2 + 4 + 0
    assert found["adamix_token_seconds_count"] == 2


def test_the_parts_of_a_request_add_up_to_the_whole(traffic: Traffic) -> None:
    started = time.monotonic()
    with traffic.by_hand() as step:
        asked = traffic.later("abcd", 3)
        time.sleep(0.2)
        waited = time.monotonic()
        step()  # the queue, the prompt, the first token and the second one
        time.sleep(0.3)
    asked.result()
    ended = time.monotonic()
    queue, prefill, decode, first, total, gaps = traffic.values(
        "vllm:request_queue_time_seconds_sum",
        "vllm:request_prefill_time_seconds_sum",
        "vllm:request_decode_time_seconds_sum",
        "vllm:time_to_first_token_seconds_sum",
        "vllm:e2e_request_latency_seconds_sum",
        "vllm:inter_token_latency_seconds_sum",
    )
    assert 0.2 <= queue <= ended - started - decode
    assert 0.3 <= gaps <= decode <= ended - waited
    assert total == pytest.approx(first + decode) and total <= ended - started
    assert queue + prefill <= first  # before the queue it is tokenized
    found = traffic.samples()
    assert found["adamix_queue_seconds_sum"] == queue and found["adamix_first_token_seconds_sum"] == first
    assert found["vllm:inter_token_latency_seconds_count"] == 2
    assert found["vllm:inter_token_latency_seconds_bucket{le=0.2}"] == 1


def test_a_prompt_that_is_repeated_comes_from_the_prefix_cache(traffic: Traffic) -> None:
    prompt = "0123456789" * 4
    for text in (prompt, prompt, prompt[:36] + "other"):
        assert traffic.ask(text, 1, "base").status_code == 200
    found = traffic.samples()
    assert found["vllm:prefix_cache_queries_total"] == 40 + 40 + 41
    assert found["vllm:prefix_cache_hits_total"] == 39 + 36  # the last token of a prompt is always run
    assert found["adamix_tokens_total{kind=cached}"] == 75
    traffic.ask(prompt, 1, "base", cache_salt="of another")
    assert traffic.values("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total") == [161, 75]


def test_a_request_waits_while_the_slot_is_taken(traffic: Traffic) -> None:
    with traffic.by_hand() as step:
        north = traffic.later("ab", 4)
        assert traffic.values("vllm:num_requests_running", "vllm:num_requests_waiting") == [0, 1]
        assert traffic.lora()["waiting_lora_adapters"] == "north"
        step()
        south = traffic.later("abc", 4, "south")
        step()
        assert traffic.values("vllm:num_requests_running", "vllm:num_requests_waiting") == [1, 1]
        assert traffic.values("adamix_running_rows", "adamix_queue_rows") == [1, 1]
        assert traffic.values("vllm:kv_cache_usage_perc", "adamix_kv_cache_usage") == [6 / TOKENS_IN_FLIGHT] * 2
        assert traffic.lora() == {
            "max_lora": "1",
            "running_lora_adapters": "north",
            "waiting_lora_adapters": "south",
        }
    assert north.result().status_code == south.result().status_code == 200
    model = '{model_name="tiny"} 0.0'
    metrics_with(traffic.client, *(f"vllm:{name}{model}" for name in ("num_requests_running", "kv_cache_usage_perc")))
    assert traffic.lora() == {"max_lora": "1", "running_lora_adapters": "south", "waiting_lora_adapters": ""}


def test_the_base_model_is_no_adapter_that_waits(traffic: Traffic) -> None:
    with traffic.by_hand():
        asked = traffic.later("ab", 1, "base")
        assert traffic.lora()["waiting_lora_adapters"] == ""
    asked.result()


def test_adapters_move_between_slots_host_memory_and_disk(traffic: Traffic) -> None:
    for name in ("north", "south", "west"):
        traffic.ask("ab", 1, name)
    tiers = traffic.samples()
    assert [tiers[f"adamix_adapter_residency{{adapter={name},tier=slot}}"] for name in ("north", "south", "west")] == [
        *(0, 0, 1)
    ]
    assert [tiers[f"adamix_adapter_residency{{adapter={name},tier=host}}"] for name in ("north", "south", "west")] == [
        *(0, 1, 1)
    ]
    assert (tiers["adamix_slots"], tiers["adamix_adapters_in_host"]) == (1, 2)


def test_texts_are_counted_by_the_reason_of_their_end(traffic: Traffic) -> None:
    (text,) = (choice["text"] for choice in traffic.ask("ab", 4).json()["choices"])
    traffic.ask("ab", 8, stop=[text[:2]])
    with traffic.by_hand():
        traffic.ask_and_leave("ab", 8)
    with traffic.by_hand():
        late = traffic.later("ab", 4)
        time.sleep(2.1)
    assert late.result().status_code == 504
    found = traffic.samples()
    reasons = ("length", "stop", "abort", "error")
    assert [found[f"vllm:request_success_total{{finished_reason={name}}}"] for name in reasons] == [1, 1, 1, 1]
    ends = ("length", "stop", "cancelled", "failed")
    assert [found[f"adamix_ended_total{{reason={name}}}"] for name in ends] == [1, 1, 1, 1]
    assert found["vllm:prompt_tokens_total"] == 2 + 2  # the others never began
    assert found["vllm:e2e_request_latency_seconds_count"] == 4


def test_texts_of_a_classifier_are_requests(classifier: Classifier, gate: Gate) -> None:
    """`[CLS] good [SEP]` has three tokens; two texts run while two wait."""
    app = make_app(
        AsyncClassifier(classifier, BatchLimits(max_batch_requests=2)), metrics=MetricOptions(sets=list(METRIC_SETS))
    )
    with live_app(app) as client, ThreadPoolExecutor(1) as clients:
        body = {"inputs": [["good"], ["good"], ["bad"], ["bad"]], "adapter": ["tone", "tone", "intent", "intent"]}
        asked = clients.submit(client.post, "/predict", json=body)
        assert gate.reached.wait(10)
        model = '{model_name="tiny"} 2.0'
        lines = client.get("/metrics").text.splitlines()
        assert {f"vllm:num_requests_running{model}", f"vllm:num_requests_waiting{model}"} <= {*lines}
        assert {"adamix_running_rows 2.0", "adamix_queue_rows 2.0"} <= {*lines}
        (lora,) = (line for line in lines if line.startswith("vllm:lora_requests_info{"))
        assert 'running_lora_adapters="intent,tone",waiting_lora_adapters="intent"' in lora
        gate.opened.set()
        assert asked.result().status_code == 200
        metrics_with(
            client,
            'vllm:num_requests_running{model_name="tiny"} 0.0',
            'vllm:prompt_tokens_total{model_name="tiny"} 12.0',
            'vllm:request_success_total{finished_reason="stop",model_name="tiny"} 4.0',
            'vllm:request_queue_time_seconds_count{model_name="tiny"} 4.0',
            'vllm:e2e_request_latency_seconds_count{model_name="tiny"} 4.0',
        )
