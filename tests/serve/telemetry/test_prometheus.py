from collections.abc import Iterator

import httpx
import pytest
from starlette.testclient import TestClient

from serve.http.app import make_app
from serve.telemetry.prometheus import METRIC_SETS, MetricOptions, Metrics
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.telemetry.events import SEQUENCE


@pytest.fixture
def toy() -> Iterator[tuple[ToyEngine, httpx.Client]]:
    """An engine and a client of its server, which has the metrics of every set."""
    engine = ToyEngine()
    with TestClient(make_app(engine, metrics=MetricOptions(sets=list(METRIC_SETS)))) as client:
        yield engine, client


def names(text: str) -> set[str]:
    """The names of metrics in an exposition."""
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


def test_a_server_has_our_own_names_unless_others_are_asked_for() -> None:
    with TestClient(make_app(ToyEngine())) as client:
        assert all(name.startswith("adamix_") for name in names(client.get("/metrics").text))
    with TestClient(make_app(ToyEngine(), metrics=MetricOptions(sets=["vllm"]))) as client:
        assert all(name.startswith("vllm:") for name in names(client.get("/metrics").text))


def test_sets_of_names_stand_side_by_side(toy: tuple[ToyEngine, httpx.Client]) -> None:
    engine, client = toy
    engine.report(SEQUENCE)
    lines = client.get("/metrics").text.splitlines()
    assert 'adamix_tokens_total{kind="written"} 5.0' in lines
    assert 'vllm:generation_tokens_total{model_name="toy"} 5.0' in lines


def test_a_set_that_is_named_twice_is_there_once() -> None:
    assert len(Metrics(ToyEngine(), MetricOptions(sets=["vllm", "vllm"])).sets) == 1


def test_the_media_type_is_that_of_prometheus_text_format(toy: tuple[ToyEngine, httpx.Client]) -> None:
    assert toy[1].get("/metrics").headers["content-type"].startswith("text/plain; version=")
