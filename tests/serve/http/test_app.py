import re
import threading
import time

import httpx
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.testclient import TestClient

from serve.classification.async_classifier import AsyncClassifier
from serve.classification.classifier import Classifier
from serve.http.app import PROTOCOLS, direct_routes, make_app
from serve.http.error_responses import INVALID, ErrorResponder
from serve.limits import BatchLimits
from tests.fixtures.toy_engine import ToyEngine
from tests.serve.conftest import live_server
from tests.serve.http.conftest import Gate


def test_a_server_that_is_told_to_stop_answers_what_is_in_flight(classifier: Classifier, gate: Gate) -> None:
    answers: list[int] = []

    def ask(address: httpx.URL) -> None:
        with httpx.Client(base_url=address, timeout=30) as own:
            answers.append(own.post("/predict", json={"inputs": [["good"]] * 3, "adapter": "tone"}).status_code)

    with live_server(classifier, BatchLimits(max_batch_requests=1)) as client:
        clients = [threading.Thread(target=ask, args=(client.base_url,)) for _ in range(5)]
        for thread in clients:
            thread.start()
        assert gate.reached.wait(10)
        while "adamix_queue_rows 14.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        threading.Timer(0.5, gate.opened.set).start()
    for thread in clients:
        thread.join()
    assert answers == [200] * 5


def test_openapi_describes_predict(client: httpx.Client) -> None:
    assert "/predict" in client.get("/openapi.json").json()["paths"]
    assert client.get("/nothing").status_code == 404


def test_an_engine_gets_the_protocols_that_it_is_capable_of(classifier: Classifier) -> None:
    expected = {"/predict": (True, False), "/v1/completions": (False, True), "/v1/models": (True, True)}
    engines = AsyncClassifier(classifier), ToyEngine()
    paths = [make_app(engine).openapi()["paths"].keys() for engine in engines]
    assert {path: tuple(path in found for found in paths) for path in expected} == expected
    assert all({"/health", "/info", "/metrics"} <= found for found in paths)


def test_an_engine_runs_while_its_app_runs() -> None:
    engine = ToyEngine()
    with TestClient(make_app(engine)) as client:
        assert client.get("/health").status_code == 200
        assert engine.calls == ["start"]
    assert engine.calls == ["start", "drain"]


def test_a_path_belongs_to_the_protocol_of_its_whole_prefix() -> None:
    errors = ErrorResponder(PROTOCOLS.values())
    assert "message" in errors.body("/v1/completions", "no", INVALID)["error"]
    assert errors.body("/v10/completions", "no", INVALID)["error"] == "no"
    alone = ErrorResponder([PROTOCOLS["openai"]])
    assert alone.body("/elsewhere", "no", INVALID)["error"]["message"] == "no"


def test_functions_that_take_a_request_and_return_a_response_have_routes_past_fastapi() -> None:
    paths = {route.path for route in direct_routes(router for one in PROTOCOLS.values() for router in one.routers)}
    infer = "/v2/models/{name}/versions/{version}/infer"
    assert {"/predict", "/classify", "/v1/completions", "/v1/chat/completions", "/models/{name:path}", infer} < paths
    assert not paths & {"/health", "/v1/models"}, "FastAPI writes their bodies"


def test_no_route_hides_another() -> None:
    routers = [router for one in PROTOCOLS.values() for router in one.routers]
    direct = direct_routes(routers)
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        path = re.sub(r"{\w+(:path)?}", "some-name", route.path)
        scope = {"type": "http", "path": path, "root_path": ""}
        for method in route.methods:
            found = [one.path for one in direct if one.matches({**scope, "method": method})[0] is Match.FULL]
            assert found in ([], [route.path]), "a route before FastAPI's takes its requests"
