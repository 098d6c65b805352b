"""Several workers: one that dies or hangs is replaced, and a rolling restart fails no request."""

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.reliability.conftest import Server, serve
from tests.reliability.test_connections import BODY, answer, connect, half_body, is_closed, request
from tests.reliability.worker_load import (
    ANSWERED,
    CLOSED,
    OK,
    REFUSED,
    children,
    metric,
    under_load,
    wait_for,
    wait_for_workers,
)
from tests.serve.conftest import Reference, write_adapter

pytestmark = pytest.mark.slow

READY_SECONDS = 5.0
"""Time in which a worker is ready again, on a machine that has cores to spare."""
BUSY_FACTOR = 4
"""The short form may run beside other tests."""
RESTARTS = "adamix_worker_restarts_total"
HUNG_SECONDS = 2.0
"""Silence after which the supervisor of these tests takes a worker to hang."""
Figure = Callable[[str], None]


def times(short: int, soak: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [short, pytest.param(soak, marks=pytest.mark.soak)])


def most_seconds(count: int) -> float:
    return READY_SECONDS * (1 if count >= 5 else BUSY_FACTOR)


@pytest.fixture(scope="module")
def workers(classifier_folder: Path) -> Iterator[Server]:
    """Two workers that several tests do harm to."""
    with serve(classifier_folder, "--workers", 2, "--worker-timeout-secs", HUNG_SECONDS) as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        yield server


@times(short=3, soak=20)
def test_a_worker_that_is_killed_loses_only_its_own_requests(count: int, workers: Server, figure: Figure) -> None:
    draw, waits, supervisor, address = random.Random(0), [], workers.process.pid, workers.address
    restarts = metric(address, RESTARTS)
    with under_load(address) as load:
        for _ in range(count):
            killed = draw.choice(children(supervisor))
            os.kill(killed, signal.SIGKILL)
            assert httpx.get(f"{address}/health/ready", timeout=READY_SECONDS).status_code == 200
            waits.append(wait_for_workers(address, 2, supervisor=supervisor, without=killed))
    counted = metric(address, ANSWERED) - load.counted_before
    figure(f"{count} workers killed: ready again after at most {max(waits):.1f} s; {dict(load.outcomes)}")
    assert set(load.outcomes) <= {OK, REFUSED, CLOSED}
    assert load.outcomes[CLOSED] <= load.clients * count, "a worker has taken others' requests with it"
    assert load.outcomes[OK] <= counted <= load.sent, "requests of workers that died count as well"
    assert metric(address, RESTARTS) - restarts == count
    assert max(waits) <= most_seconds(count)


@times(short=1, soak=5)
def test_a_worker_that_hangs_is_replaced(count: int, workers: Server, figure: Figure) -> None:
    waits, supervisor, address = [], workers.process.pid, workers.address
    killed = sum("hangs and is killed" in line for line in workers.log)
    with under_load(address) as load:
        for _ in range(count):
            stopped = children(supervisor)[0]
            os.kill(stopped, signal.SIGSTOP)
            time.sleep(HUNG_SECONDS)
            assert httpx.get(f"{address}/health/ready", timeout=READY_SECONDS).status_code == 200
            waits.append(wait_for_workers(address, 2, supervisor=supervisor, without=stopped))
    figure(
        f"{count} workers stopped: ready again {max(waits):.1f} s after the {HUNG_SECONDS:g} s; {dict(load.outcomes)}"
    )
    assert set(load.outcomes) <= {OK, REFUSED, CLOSED}
    assert load.outcomes[CLOSED] <= load.clients * count
    assert sum("hangs and is killed" in line for line in workers.log) - killed == count
    assert max(waits) <= most_seconds(count)


@times(short=2, soak=10)
def test_a_rolling_restart_fails_no_request(count: int, workers: Server, figure: Figure) -> None:
    supervisor, address = workers.process.pid, workers.address
    restarts = metric(address, RESTARTS)
    with under_load(address) as load:
        for _ in range(count):
            before = set(children(supervisor))
            workers.process.send_signal(signal.SIGUSR2)
            wait_for(lambda before=before: len(now := set(children(supervisor))) == 2 and not now & before)
    figure(f"{count} rolling restarts: {dict(load.outcomes)}, the slowest after {max(load.seconds):.2f} s")
    assert set(load.outcomes) == {OK}
    assert metric(address, ANSWERED) - load.counted_before == load.sent, (
        "requests of workers that were replaced count as well"
    )
    assert metric(address, RESTARTS) == restarts


@times(short=2, soak=10)
def test_a_reload_fails_no_request(count: int, workers: Server, figure: Figure) -> None:
    told = sum(line.endswith("INFO reloaded") for line in workers.log)
    before = set(children(workers.process.pid))
    with under_load(workers.address) as load:
        for number in range(1, count + 1):
            workers.process.send_signal(signal.SIGHUP)
            wait_for(lambda n=number: sum(one.endswith("INFO reloaded") for one in workers.log) >= told + 2 * n)
    figure(f"{count} reloads: {dict(load.outcomes)}, the slowest after {max(load.seconds):.2f} s")
    assert set(load.outcomes) == {OK}
    assert set(children(workers.process.pid)) == before, "no worker was replaced"


def test_a_stop_answers_what_was_taken(classifier_folder: Path, figure: Figure) -> None:
    with serve(classifier_folder, "--workers", 2) as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        with under_load(server.address) as load:
            server.process.terminate()
            assert server.process.wait(30) == 0
    figure(f"SIGTERM under load: {dict(load.outcomes)}")
    assert set(load.outcomes) <= {OK, REFUSED, CLOSED}
    assert sum("every accepted request is answered" in line for line in server.log) == 2
    assert not any("Traceback" in line for line in server.log)


def test_a_stop_in_the_middle_of_a_rolling_restart_refuses_on_open_connections(
    classifier_folder: Path, figure: Figure
) -> None:
    """Also the worker that retires, whose clients would find nobody if it closed their connections."""
    with (
        serve(classifier_folder, "--workers", 2, "--no-cache", "--exit-timeout-secs", 60) as server,
        contextlib.ExitStack() as stack,
    ):
        supervisor = server.process.pid
        wait_for_workers(server.address, 2, supervisor=supervisor)
        open_ones, halves = ([stack.enter_context(connect(server)) for _ in range(count)] for count in (6, 4))
        for connection in open_ones:
            connection.sendall(request("/predict", BODY))
            assert "connection: close" not in answer(connection)
        for connection in halves:
            half_body(connection)
        server.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: sum(line.endswith("is ready") for line in server.log) == 3)  # so that the first one retires
        assert len(children(supervisor)) == 3
        server.process.terminate()
        wait_for(lambda: is_closed(server))
        outcomes: Counter[str] = Counter()
        for connection in open_ones:
            connection.sendall(request("/predict", BODY))
            outcomes[answer(connection)[:13]] += 1
        for connection in halves:
            connection.sendall(BODY[-10:])
            assert answer(connection).startswith("http/1.1 200 ")
        assert server.process.wait(60) == 0
    figure(f"SIGTERM while a worker retires: {dict(outcomes)} on open connections, {len(halves)} halves answered")
    assert set(outcomes) == {"http/1.1 503 "}
    assert sum("every accepted request is answered" in line for line in server.log) == 3


def test_workers_end_with_their_supervisor(classifier_folder: Path) -> None:
    with serve(classifier_folder, "--workers", 2) as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        workers = children(server.process.pid)
        folder = _private_folder(workers[0])
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(_runs(worker) for worker in workers))
    assert not folder.exists()


def test_adapters_are_loaded_on_all_workers_or_on_none(
    classifier_folder: Path, tmp_path: Path, reference: Reference
) -> None:
    adapters = tmp_path / "adapters"
    write_adapter(adapters / "grade", reference, "grade")
    write_adapter(adapters / "match", reference, "match", canary_logits=[[9.0, 9.0], [9.0, 9.0]])
    flags = ("--workers", 2, "--slots", 4, "--adapter-dir", adapters, "--no-cache")
    with serve(classifier_folder, *flags) as server:
        supervisor = server.process.pid
        wait_for_workers(server.address, 2, supervisor=supervisor)
        with httpx.Client(base_url=server.address, timeout=30) as one, httpx.Client(base_url=server.address) as two:
            assert _names(one) == _names(two) == {"tone", "intent"}  # two connections are those of two workers
            assert _load(one, "grade").status_code == 200
            assert _names(one) == _names(two) == {"tone", "intent", "grade"}
            refused = _load(two, "match")
            assert refused.status_code == 422
            assert "adamix-serve-" not in refused.text, "the place of the copies is nobody's business"
            assert _names(one) == _names(two) == {"tone", "intent", "grade"}
        shutil.rmtree(adapters / "grade")
        before = children(supervisor)
        for worker in before:
            os.kill(worker, signal.SIGKILL)
            wait_for_workers(server.address, 2, supervisor=supervisor, without=worker)
        with httpx.Client(base_url=server.address) as one, httpx.Client(base_url=server.address) as two:
            assert _names(one) == _names(two) == {"tone", "intent", "grade"}
            assert two.post("/v1/unload_lora_adapter", json={"lora_name": "grade"}).status_code == 200
            assert _names(one) == _names(two) == {"tone", "intent"}
            assert one.post("/v1/unload_lora_adapter", json={"lora_name": "grade"}).status_code == 404


def test_a_watched_folder_is_that_of_all_workers(classifier_folder: Path, tmp_path: Path, reference: Reference) -> None:
    """Each worker watches it, one of them loads what appears, and a worker that was restarted knows what it holds."""
    (adapters := tmp_path / "adapters").mkdir()
    flags = ("--workers", 2, "--slots", 6, "--adapter-dir", adapters, "--adapter-watch", 0.2, "--no-cache")
    with serve(classifier_folder, *flags) as server:
        supervisor = server.process.pid
        wait_for_workers(server.address, 2, supervisor=supervisor)

        def on_both() -> list[dict[str, str]]:
            with httpx.Client(base_url=server.address) as one, httpx.Client(base_url=server.address) as two:
                each = (client.get("/info").json()["adapters"] for client in (one, two))
                return [{name: facts["sha256"] for name, facts in adapters.items()} for adapters in each]

        write_adapter(tmp_path / "new", reference, "grade")
        (tmp_path / "new").rename(adapters / "grade")
        wait_for(lambda: all("grade" in each for each in on_both()))
        before = on_both()[0]["grade"]
        for worker in children(supervisor):
            os.kill(worker, signal.SIGKILL)
            wait_for_workers(server.address, 2, supervisor=supervisor, without=worker)
        changed = {name: 2 * tensor for name, tensor in reference.adapters["grade"].items()}
        write_adapter(tmp_path / "new", Reference(reference.embeddings, {"grade": changed}), "grade")
        shutil.rmtree(adapters / "grade")
        (tmp_path / "new").rename(adapters / "grade")
        wait_for(lambda: all(each.get("grade", before) != before for each in on_both()))
        assert on_both()[0] == on_both()[1]
        shutil.rmtree(adapters / "grade")
        wait_for(lambda: not any("grade" in each for each in on_both()))
        assert not [line for line in server.log if "was not loaded" in line or "does not follow" in line]


def test_a_hang_up_reads_the_configuration_on_all_workers(
    classifier_folder: Path, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "grade", reference, "grade")
    config = tmp_path / "serve.yaml"
    config.write_text("workers: 2\nslots: 4\n")
    with serve(classifier_folder, "--config", config) as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        for adapter, names in (("grade", {"tone", "intent", "grade"}), (None, {"tone", "intent"})):
            config.write_text("workers: 2\nslots: 4\n" + (f"adapter: {tmp_path / adapter}\n" if adapter else ""))
            told = sum(line.endswith("INFO reloaded") for line in server.log)
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda told=told: sum(line.endswith("INFO reloaded") for line in server.log) == told + 2)
            with httpx.Client(base_url=server.address) as one, httpx.Client(base_url=server.address) as two:
                assert _names(one) == _names(two) == names
        assert not any(" ERROR " in line for line in server.log)


def test_metrics_add_up_to_what_was_sent(workers: Server) -> None:
    before = _metrics(workers.address)
    with httpx.Client(base_url=workers.address) as one, httpx.Client(base_url=workers.address) as two:
        for client, adapter, rows in ((one, "tone", 3), (two, "tone", 4), (two, "intent", 5)):
            body = {"inputs": [["good"]] * rows, "adapter": adapter}
            assert client.post("/predict", json=body).status_code == 200
        assert one.post("/predict", json={}).status_code == 422
        expected = {
            'adamix_rows_total{adapter="tone"}': 7,
            'adamix_rows_total{adapter="intent"}': 5,
            ANSWERED: 3,
            'adamix_requests_total{code="422",method="POST"}': 1,
            "adamix_request_seconds_count": 4,
            'adamix_request_seconds_bucket{le="+Inf"}': 4,
            "adamix_batch_rows_sum": 12,
        }
        for client in (one, two):
            found = _metrics(str(client.base_url))
            assert {name: found[name] - before.get(name, 0) for name in expected} == expected
            assert (found["adamix_adapters"], found["adamix_healthy"], found["adamix_workers"]) == (2, 1, 2)


def test_keys_have_one_allowance_for_all_workers(classifier_folder: Path, tmp_path: Path) -> None:
    digest = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"  # of "key"
    (tmp_path / "keys.toml").write_text(f'[some]\nsha256 = "{digest}"\nrequests_per_minute = 6\n')
    with serve(classifier_folder, "--workers", 2, "--api-keys", tmp_path / "keys.toml") as server:
        headers, body = {"x-api-key": "key"}, {"inputs": "good", "adapter": "tone"}
        wait_for(lambda: sum(line.endswith("is ready") for line in server.log) == 2)
        with (
            httpx.Client(base_url=server.address, headers=headers) as one,
            httpx.Client(base_url=server.address, headers=headers) as two,
        ):
            codes = [client.post("/predict", json=body).status_code for _ in range(4) for client in (one, two)]
    assert codes == [200] * 6 + [429] * 2


def test_a_bundle_that_cannot_be_served_ends_the_server(tmp_path: Path) -> None:
    match = "the first worker ended with exit code 1 before it could serve"
    with pytest.raises(AssertionError, match=match), serve(tmp_path / "nowhere", "--workers", 2):
        pass


def _metrics(address: str) -> dict[str, float]:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    return {name: float(value) for name, value in (one.rsplit(" ", 1) for one in lines if not one.startswith("#"))}


def _names(client: httpx.Client) -> set[str]:
    return set(client.get("/info").json()["adapters"])


def _load(client: httpx.Client, name: str) -> httpx.Response:
    return client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": name})


def _private_folder(worker: int) -> Path:
    """Return the folder that a worker's counters are mapped from."""
    mapped = re.findall(r"(/\S*adamix-serve-\w+)/", Path(f"/proc/{worker}/maps").read_text())
    assert len(set(mapped)) == 1
    return Path(mapped[0])


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
