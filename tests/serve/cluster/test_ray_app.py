import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.classification.classifier import Classifier
from serve.errors import ConfigurationError
from tests.serve.cluster.conftest import LOOKED_UP, Deploy, deployments

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

SCOUTS, OTHERS = LOOKED_UP[:4], LOOKED_UP[4:]
KEY = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module", params=["header", "body"])
def route_by(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def header(route_by: str, adapter: str) -> dict[str, str]:
    return {"serve_multiplexed_model_id": adapter} if route_by == "header" else {}


def classify(client: httpx.Client, adapter: str, text: str = "good", **options: Any) -> httpx.Response:
    return client.post("/predict", json={"inputs": text, "adapter": adapter}, **options)


def test_replicas_answer_as_one_server_and_each_adapter_has_one_of_them(
    route_by: str, deploy: Deploy, classifiers: Path
) -> None:
    folder = classifiers.parent / "adapters"
    with deploy(
        "classify", classifiers, route_by=route_by, min_replicas=2, max_replicas=2, adapter_dir=str(folder),
        adapter_lookup=True,
    ) as client:  # fmt: skip
        expected = Classifier(classifiers, provider="cpu")
        for adapter in ("tone", "intent"):
            for text in ("good", "bad bill"):
                found = classify(client, adapter, text, headers=header(route_by, adapter))
                (prediction,) = expected(text, adapter=adapter)
                assert found.headers["x-adapter"] == adapter
                assert found.json()[0]["label"] == prediction.label
                assert found.json()[0]["score"] == pytest.approx(float(prediction.scores.max()), abs=1e-5)
        ask_until_both_replicas_hold_some(client, SCOUTS, route_by)
        for _ in range(3):
            for name in OTHERS:
                assert classify(client, name, headers=header(route_by, name)).headers["x-adapter"] == name
        listed = held(client)
        assert {name: sum(name in names for names in listed) for name in OTHERS} == dict.fromkeys(OTHERS, 1)
        assert_errors_are_those_of_the_protocol(client)


def held(client: httpx.Client) -> set[frozenset[str]]:
    """Ask any replica, often enough to have asked both, which of the adapters it holds."""
    seen: set[frozenset[str]] = set()
    for _ in range(40):
        listed = client.get("/v1/models").json()["data"]
        seen.add(frozenset(one["id"] for one in listed) & frozenset(LOOKED_UP))
        if len(seen) == 2:
            break
    return seen


def ask_until_both_replicas_hold_some(client: httpx.Client, names: Sequence[str], route_by: str) -> None:
    """Ask for adapters until the router, which may begin with one replica, knows both.

    In one run of eight all four names belong to the same replica; after ten seconds it has long known both.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for name in names:
            classify(client, name, headers=header(route_by, name))
        if len(seen := held(client)) == 2 and all(seen):
            return


def assert_errors_are_those_of_the_protocol(client: httpx.Client) -> None:
    wrong = classify(client, "nobody")
    assert (wrong.status_code, wrong.json()["error_type"]) == (404, "unknown_adapter")
    assert client.get("/nonsense").status_code == 404
    refused = client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "x"})
    assert refused.status_code == 403
    assert "put its folder below --adapter-dir" in refused.json()["error"]["message"]
    too_long = client.post("/predict", content=b'{"inputs": "' + b"x" * 3_000_000 + b'"}')
    assert (too_long.status_code, too_long.json()["error_type"]) == (413, "payload_too_large")
    named = client.get("/health", headers={"x-request-id": "mine"})
    assert (named.status_code, named.headers.get_list("x-request-id")) == (200, ["mine"])


@pytest.fixture(scope="module")
def keyed(ray_cluster: int, classifiers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one replica that asks for a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(f'[acme]\nsha256 = "{hashlib.sha256(b"secret").hexdigest()}"\n')
    with deployments(ray_cluster) as deploy, deploy("keys", classifiers, api_keys=str(keys)) as client:
        yield client


def test_keys_and_admins_are_asked_for_as_on_one_server(keyed: httpx.Client) -> None:
    assert classify(keyed, "tone").status_code == 401
    assert classify(keyed, "tone", headers=KEY).status_code == 200


def test_a_servers_metrics_are_among_those_of_ray(keyed: httpx.Client) -> None:
    import ray

    for _ in range(5):
        assert classify(keyed, "intent", headers=KEY).status_code == 200
    port, end = ray.nodes()[0]["MetricsExportPort"], time.monotonic() + 60
    while time.monotonic() < end:
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        rows = [one for one in lines if one.startswith("ray_adamix_rows_total") and 'adapter="intent"' in one]
        if any(float(one.rpartition(" ")[2]) == 5 for one in rows):
            break
        time.sleep(0.2)
    else:
        pytest.fail("the metrics did not come")
    assert any(one.startswith("ray_adamix_queue_rows{") for one in lines)
    assert any(one.startswith("ray_adamix_queue_seconds_bucket_total{") for one in lines)


@pytest.fixture(scope="module")
def writer(ray_cluster: int, route_by: str, generators: Path) -> Iterator[httpx.Client]:
    """A client of one replica that generates."""
    with deployments(ray_cluster) as deploy, deploy("write", generators, route_by=route_by) as client:
        yield client


def test_text_is_streamed_as_it_is_generated(route_by: str, writer: httpx.Client) -> None:
    (model, *_) = (one["id"] for one in writer.get("/v1/models").json()["data"])
    body = {"model": model, "prompt": "abc", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    whole = writer.post("/v1/completions", json=body, headers=header(route_by, model)).json()
    pieces = []
    with writer.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                pieces.append(httpx.Response(200, text=line[6:]).json()["choices"][0]["text"])
    assert "".join(pieces) == whole["choices"][0]["text"]
    assert len(pieces) > 1


def test_a_client_that_hangs_up_ends_its_generation(writer: httpx.Client) -> None:
    def written_to_the_end() -> int:
        found = re.search(r'^adamix_ended_total\{reason="length"\} (\d+)', writer.get("/metrics").text, re.MULTILINE)
        return int(found[1]) if found else 0

    (model, *_) = (one["id"] for one in writer.get("/v1/models").json()["data"])
    body = {"model": model, "prompt": "abc", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    before = written_to_the_end()
    with writer.stream("POST", "/v1/completions", json=body) as response:
        next(response.iter_lines())
    end = time.monotonic() + 20
    while not re.search(r"^adamix_running_rows 0", writer.get("/metrics").text, re.MULTILINE):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert written_to_the_end() == before
    assert writer.post("/v1/completions", json={**body, "max_tokens": 2, "stream": False}).status_code == 200
    assert written_to_the_end() == before + 1


def test_a_rolling_update_fails_no_request(deploy: Deploy, classifiers: Path) -> None:
    settings = {"min_replicas": 2, "max_replicas": 2}
    with deploy("update", classifiers, **settings) as client:
        assert client.get("/info").json()["max_client_batch_size"] == 64
        outcomes: list[int | str] = []
        ended = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                while not ended.is_set():
                    try:
                        outcomes.append(classify(own, "tone").status_code)
                    except httpx.TransportError as error:
                        outcomes.append(repr(error))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        deploy("update", classifiers, **settings, max_client_batch_size=8)
        time.sleep(1)
        ended.set()
        for thread in threads:
            thread.join()
        assert client.get("/info").json()["max_client_batch_size"] == 8
    assert len(outcomes) > 20
    assert set(outcomes) == {200}


def test_replicas_are_added_while_requests_wait(deploy: Deploy, generators: Path) -> None:
    from ray import serve as ray_serve

    def running() -> int:
        states = ray_serve.status().applications["scale"].deployments["replica"].replica_states
        return states.get("RUNNING", 0)

    with deploy("scale", generators, max_replicas=2, target_requests=1, scale_up_secs=0.5) as client:
        assert running() == 1
        (model, *_) = (one["id"] for one in client.get("/v1/models").json()["data"])

        async def ask() -> None:
            async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as own:
                end = time.monotonic() + 60
                while running() < 2 and time.monotonic() < end:
                    body = {"model": model, "prompt": "abc", "max_tokens": 100, "ignore_eos": True}
                    found = await asyncio.gather(*(own.post("/v1/completions", json=body) for _ in range(16)))
                    assert {one.status_code for one in found} == {200}

        asyncio.run(ask())
        assert running() == 2


def test_proxies_that_run_already_say_where_they_listen(ray_cluster: int) -> None:
    """It is here and not in a module of its own, which would start a cluster for it."""
    from serve.cluster.proxies import start_proxies

    assert start_proxies(None, None) == ("127.0.0.1", ray_cluster)
    assert start_proxies("127.0.0.1", ray_cluster) == ("127.0.0.1", ray_cluster)
    elsewhere = ray_cluster - 1
    told = f"listens on 127.0.0.1:{ray_cluster} already, not on 127.0.0.1:{elsewhere}: leave --host and --port out"
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        start_proxies(None, elsewhere)
