"""The dashboard of deploy/grafana: every query is evaluated against servers under traffic, as Grafana would ask it.

Real PromQL needs Prometheus (Debian: apt-get install prometheus) and is left out elsewhere; that each query's metrics
and labels exist is tested everywhere.
"""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.interop.conftest import serving

pytestmark = pytest.mark.slow
DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana/adamix-serve.json").read_text("utf-8"))
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
SCRAPE_SECONDS, TRAFFIC_SECONDS, START_SECONDS = 0.5, 6.0, 60.0
TARGET_LABELS = {"instance", "job"}
"""Labels that Prometheus adds."""
PROMPT = "0123456789" * 4
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']}: {target['legendFormat']}": (target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
}
SELECTOR = re.compile(r"\b((?:adamix_|vllm:)\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def substituted(text: str, interval: str) -> str:
    """A query as Grafana sends it, for all servers."""
    for name, value in (("$__rate_interval", interval), ("$instance", ".*")):
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


@pytest.fixture(scope="module")
def server(bank_folder: Path, writer_folder: Path) -> Iterator[str]:
    """Address of a server of classifiers and generators."""
    with serving(bank_folder, writer_folder, "--slots", 2) as address:
        yield address


def ask_everything(client: httpx.Client) -> None:
    """Classify, generate with a prompt of the prefix cache, and send a request that is refused."""
    body = {"inputs": [["good"], ["very bad"]], "adapter": ["tone", "intent"]}
    assert client.post("/predict", json=body).status_code == 200
    for name, prompt in (("base", PROMPT), ("base", PROMPT), ("north", "a"), ("south", "b"), ("west", "c")):
        asked = {"model": name, "prompt": prompt, "max_tokens": 4, "ignore_eos": True}
        assert client.post("/v1/completions", json=asked).status_code == 200
    late = client.post("/predict", json=body, headers={"X-Request-Timeout": "0.000001"})
    assert late.status_code in (429, 504)


@pytest.fixture(scope="module")
def scraped(server: str) -> dict[str, list[dict[str, str]]]:
    """Labels of each sample of a server that has answered something of everything, by its name."""
    with httpx.Client(base_url=server, timeout=60) as client:
        ask_everything(client)
        text = client.get("/metrics").text
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.fixture(scope="module")
def prometheus(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Prometheus that has scraped the server under traffic."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    target = {"job_name": "adamix", "static_configs": [{"targets": [server.removeprefix("http://")]}]}
    config = {"global": {"scrape_interval": f"{SCRAPE_SECONDS * 1000:g}ms"}, "scrape_configs": [target]}
    config["global"]["scrape_timeout"] = config["global"]["scrape_interval"]  # type: ignore[index]
    (folder / "prometheus.yml").write_text(json.dumps(config))  # YAML holds JSON
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log, stdout=log)
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
                _wait_until_ready(client, process, folder / "log")
                _send_traffic(server, TRAFFIC_SECONDS)
                yield client
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _send_traffic(server: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    with httpx.Client(base_url=server, timeout=60) as client:
        while time.monotonic() < end:
            ask_everything(client)
            time.sleep(0.1)


@pytest.fixture
def traffic(server: str, prometheus: httpx.Client) -> Iterator[None]:
    """Traffic while a test runs, so that every rate is of the last seconds."""
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            _send_traffic(server, 0.2)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    ended.set()
    thread.join()


def evaluated(prometheus: httpx.Client, expr: str, interval: str = "5s") -> list[dict[str, Any]]:
    """The series of a query at this moment, with rates over an interval before it."""
    answer = prometheus.get("/api/v1/query", params={"query": substituted(expr, interval)}).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_every_query_gives_numbers_of_a_server_under_traffic(prometheus: httpx.Client, traffic: None) -> None:
    empty = []
    for name, (expr, legend) in QUERIES.items():
        series = evaluated(prometheus, expr)
        values = [float(one["value"][1]) for one in series]
        if not values or any(value != value for value in values):
            empty.append((name, expr, values))
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert all(label in one["metric"] for one in series), (name, label)
    assert not empty


def test_the_values_are_those_of_the_traffic(prometheus: httpx.Client) -> None:
    """A round of the traffic is 7 requests, one of them refused: 2 texts, a prompt of 40 tokens twice, and 3 of one."""

    def value(title: str) -> float:
        (panel,) = (panel for panel in PANELS if panel["title"] == title)
        (one,) = evaluated(prometheus, panel["targets"][0]["expr"], "1h")
        return float(one["value"][1])

    assert value("Refused share") == pytest.approx(1 / 7, rel=0.15)
    assert value("Prefix cache") == pytest.approx(2 * 39 / (2 * 40 + 3), rel=0.1)
    assert value("Rows of a batch") == pytest.approx(2, rel=0.1)
    assert value("Padding") == pytest.approx(1 / 8, rel=0.1)  # [CLS] good [SEP] beside [CLS] very bad [SEP]
    assert value("Healthy") == 1


def test_the_variable_of_servers_finds_the_server(prometheus: httpx.Client, server: str) -> None:
    (variable,) = (one for one in DASHBOARD["templating"]["list"] if one["type"] == "query")
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
    assert found is not None
    series = evaluated(prometheus, found[1])
    assert {one["metric"][found[2]] for one in series} == {server.removeprefix("http://")}


@pytest.mark.parametrize("name", QUERIES)
def test_the_metrics_and_labels_of_a_query_are_those_of_a_scrape(
    name: str, scraped: dict[str, list[dict[str, str]]]
) -> None:
    expr, legend = QUERIES[name]
    selectors = SELECTOR.findall(expr)
    assert selectors
    for metric, matchers in selectors:
        assert metric in scraped, f"{metric} is no metric of the server"
        wanted = {label: value for label, value in MATCHER.findall(matchers) if label not in TARGET_LABELS}
        assert any(
            all(label in labels and re.fullmatch(value, labels[label]) for label, value in wanted.items())
            for labels in scraped[metric]
        ), f"{metric} has no series with {wanted}"
    labels = {label for metric, _ in selectors for one in scraped[metric] for label in one} | TARGET_LABELS
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expr) for label in group.split(",")}
    assert grouped <= labels
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped


def test_every_query_is_restricted_to_the_chosen_servers() -> None:
    for expr, _ in QUERIES.values():
        assert all('instance=~"$instance"' in matchers for _, matchers in SELECTOR.findall(expr))


def test_panels_lie_side_by_side_without_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells and place["x"] + place["w"] <= 24
        cells |= own
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_own_tool_has_nothing_against_the_metrics_but_the_colon_of_vllm(writer_folder: Path) -> None:
    assert PROMTOOL is not None
    with serving(writer_folder, "--metrics", "adamix", "--metrics", "vllm") as address:
        text = httpx.get(f"{address}/metrics").content
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False)
    complaints = checked.stderr.decode().splitlines()
    assert all(re.fullmatch(r"vllm:\w+ metric names should not contain ':'", line) for line in complaints), complaints
