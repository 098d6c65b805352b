"""Traces of a real server, in a real collector."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.byte_decoder import write_byte_bundle
from tests.fixtures.chat_templates import HERMES
from tests.fixtures.served_process import ServedProcess, free_port, served_process
from tests.reliability.worker_load import children, wait_for_workers
from tests.serve.conftest import Reference, write_bundle

pytest.importorskip("opentelemetry.sdk", exc_type=ImportError)
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", exc_type=ImportError)
from tests.fixtures.otlp_collector import CollectedSpan, Collector

SERVER = 2
"""Kind of a server's span."""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
TEXT = {"prompt": "a", "model": "north", "max_tokens": 5, "ignore_eos": True}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> list[Path]:
    folder = tmp_path_factory.mktemp("traced")
    return [write_bundle(folder / "both", reference, ["tone", "intent"]), write_byte_bundle(folder / "bytes", HERMES)]


@pytest.fixture(scope="module")
def server(
    collector: Collector, bundles: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedProcess]:
    log = tmp_path_factory.mktemp("log") / "log"
    flags = ["--grpc", "--otlp-endpoint", collector.url, "--log-format", "json", "--access-log", "1"]
    with served_process(log, bundles, *flags, **SOON) as started:
        yield started


def ask(server: ServedProcess, path: str, body: dict[str, Any], request_id: str, **headers: str) -> httpx.Response:
    return server.client.post(path, json=body, headers={"X-Request-Id": request_id, **headers})


def is_sampled(response: httpx.Response) -> bool:
    return bool(int(response.headers["traceresponse"][-2:], 16) & 1)


def assert_inside(root: CollectedSpan, parts: list[CollectedSpan]) -> None:
    for part in parts:
        assert (part.trace_id, part.parent_id) == (root.trace_id, root.span_id)
        assert root.start <= part.start <= part.end <= root.end


def test_a_prediction_is_a_tree_of_tokenize_queue_and_run(server: ServedProcess, collector: Collector) -> None:
    body = {"inputs": [["good"], ["very bad"]], "adapter": ["tone", "intent"]}
    started = time.time_ns()
    response = ask(server, "/predict", body, "tree")
    ended = time.time_ns()
    assert response.status_code == 200
    root, parts = collector.of_request("tree")
    assert (root.name, root.kind, root.parent_id, root.service) == ("POST /predict", SERVER, "", "adamix-serve")
    assert response.headers["traceresponse"].startswith(f"00-{root.trace_id}-{root.span_id}-")
    assert is_sampled(response)
    assert started <= root.start < root.end <= ended
    assert [part.name for part in parts] == ["tokenize", "queue", "run"]
    assert_inside(root, parts)
    tokenize, queue, run = parts
    assert queue.start >= tokenize.end
    assert abs(run.start - queue.end) < 1e6  # the run begins where the wait ends
    assert sum(part.seconds for part in parts) <= root.seconds
    assert run.attributes["adamix.batch.rows"] == run.attributes["adamix.batch.own_rows"] == 2
    assert run.attributes["adamix.batch.adapters"] == ["intent", "tone"]
    assert (
        root.attributes
        | {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "client.address": "127.0.0.1",
            "adamix.adapters": ["tone", "intent"],
            "gen_ai.usage.input_tokens": 7,  # with [CLS] and [SEP] around each
            "http.response.body.size": len(response.content),
        }
        == root.attributes
    )
    line = server.access_line("tree")
    assert line["trace_id"] == root.trace_id
    assert (line["tokens_in"], line["bytes_out"]) == (7, len(response.content))
    assert line["seconds"] == pytest.approx(root.seconds, abs=2e-6)


def test_a_text_is_a_tree_of_tokenize_queue_prefill_and_decode(server: ServedProcess, collector: Collector) -> None:
    assert ask(server, "/v1/completions", TEXT, "text").status_code == 200
    root, parts = collector.of_request("text")
    assert [part.name for part in parts] == ["tokenize", "queue", "prefill", "decode"]
    assert_inside(root, parts)
    _, queue, prefill, decode = parts
    assert queue.end == prefill.start
    assert prefill.end == decode.start
    assert sum(part.seconds for part in parts) <= root.seconds
    assert decode.attributes["gen_ai.usage.output_tokens"] == root.attributes["gen_ai.usage.output_tokens"] == 5
    assert decode.attributes["adamix.batch.rows"] == 1
    assert decode.attributes["adamix.batch.adapters"] == ["north"]
    assert decode.attributes["gen_ai.response.finish_reasons"] == ["length"]


def test_a_stream_has_a_span_from_its_first_piece_to_its_last(server: ServedProcess, collector: Collector) -> None:
    body = {**TEXT, "stream": True, "max_tokens": 40}
    with server.client.stream("POST", "/v1/completions", json=body, headers={"X-Request-Id": "stream"}) as response:
        assert response.headers["X-Request-Id"] == "stream"
        size = sum(map(len, response.iter_bytes()))
    root, parts = collector.of_request("stream")
    assert_inside(root, parts)
    (stream,) = [part for part in parts if part.name == "stream"]
    decode = next(part for part in parts if part.name == "decode")
    assert decode.start < stream.start
    assert decode.end < stream.end == root.end
    assert root.attributes["http.response.body.size"] == size


def test_a_grammar_has_a_span_of_its_compilation(server: ServedProcess, collector: Collector) -> None:
    body = {**TEXT, "max_tokens": 30, "structured_outputs": {"choice": ["yes", "no"]}}
    assert ask(server, "/v1/completions", {**body, "ignore_eos": False}, "grammar").status_code == 200
    _, parts = collector.of_request("grammar")
    assert [part.name for part in parts] == ["tokenize", "compile_grammar", "queue", "prefill", "decode"]


def test_the_trace_of_the_client_goes_on(server: ServedProcess, collector: Collector) -> None:
    headers = {"traceparent": SAMPLED, "tracestate": "vendor=1"}
    response = ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, "parent", **headers)
    root, _ = collector.of_request("parent")
    assert (root.trace_id, root.parent_id) == (TRACE, PARENT)
    assert response.headers["traceresponse"].startswith(f"00-{TRACE}-{root.span_id}-")


@pytest.mark.parametrize("wrong", ["", "00-0-0-01", "no trace", f"00-{'0' * 32}-{PARENT}-01", "x" * 5000])
def test_a_trace_that_is_none_is_left(server: ServedProcess, collector: Collector, wrong: str) -> None:
    request_id = f"wrong-{len(wrong)}"
    assert ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, request_id, traceparent=wrong).is_success
    root, _ = collector.of_request(request_id)
    assert root.parent_id == ""


def test_a_trace_that_the_client_does_not_sample_is_not_sent(server: ServedProcess, collector: Collector) -> None:
    body = {"inputs": "good", "adapter": "tone"}
    response = ask(server, "/predict", body, "unsampled", traceparent=UNSAMPLED)
    assert not is_sampled(response)
    assert server.access_line("unsampled")["trace_id"] == TRACE
    ask(server, "/predict", body, "after")
    collector.of_request("after")
    assert not [span for span in collector.spans if span.attributes.get("adamix.request_id") == "unsampled"]


def test_a_bad_request_is_a_span_and_a_health_check_none(server: ServedProcess, collector: Collector) -> None:
    server.client.get("/health", headers={"X-Request-Id": "probe"})
    assert ask(server, "/predict", {"inputs": "good", "adapter": "nobody"}, "bad").status_code == 404
    root, parts = collector.of_request("bad")
    assert (root.attributes["http.response.status_code"], root.failed, parts) == (404, False, [])
    assert not [span for span in collector.spans if span.attributes.get("adamix.request_id") == "probe"]


def test_a_failure_of_the_server_is_an_error(server: ServedProcess, collector: Collector) -> None:
    body = {**TEXT, "max_tokens": 900}
    assert ask(server, "/v1/completions", body, "late", **{"X-Request-Timeout": "0.05"}).status_code == 504
    root, parts = collector.of_request("late")
    assert (root.failed, root.attributes["error.type"]) == (True, "504")
    generate = next(part for part in parts if part.name == "generate")
    assert (generate.failed, generate.attributes["error.type"]) == (True, "CancelledError")
    assert 0.02 < generate.seconds <= root.seconds


def test_grpc_has_the_same_tree(server: ServedProcess, collector: Collector) -> None:
    grpc = pytest.importorskip("grpc")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE

    asked = MESSAGES["ModelInferRequest"](model_name="tone")
    asked.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"good")
    with grpc.insecure_channel(server.grpc_address) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=lambda one: one.SerializeToString())
        metadata = (("x-request-id", "rpc"), ("traceparent", SAMPLED))
        _, call = infer.with_call(asked, metadata=metadata)
    root, parts = collector.of_request("rpc")
    answered = dict(call.trailing_metadata())
    assert answered == {"x-request-id": "rpc", "traceresponse": f"00-{TRACE}-{root.span_id}-01"}
    assert (root.name, root.trace_id, root.parent_id) == (f"{SERVICE}/ModelInfer", TRACE, PARENT)
    assert [part.name for part in parts] == ["tokenize", "queue", "run"]
    assert_inside(root, parts)
    assert root.attributes["rpc.grpc.status_code"] == "OK"


def test_each_request_of_a_grpc_stream_is_a_tree(server: ServedProcess, collector: Collector) -> None:
    grpc = pytest.importorskip("grpc")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE

    asked = MESSAGES["ModelInferRequest"](model_name="north")
    asked.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    asked.parameters["max_tokens"].int64_param = 5
    unknown = MESSAGES["ModelInferRequest"](model_name="nobody")
    with grpc.insecure_channel(server.grpc_address) as channel:
        stream = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer", request_serializer=lambda one: one.SerializeToString()
        )
        call = stream(iter([asked, unknown, asked]), metadata=(("x-request-id", "rpc-stream"),))
        assert len(list(call)) >= 3
        assert dict(call.trailing_metadata()) == {"x-request-id": "rpc-stream"}
    time.sleep(0.3)
    collector.of_request("rpc-stream")
    roots = [span for span in collector.spans if span.attributes.get("adamix.request_id") == "rpc-stream"]
    assert [root.attributes["rpc.grpc.status_code"] for root in sorted(roots, key=lambda one: one.start)] == [
        "OK",
        "NOT_FOUND",
        "OK",
    ]
    names = [sorted(one.name for one in collector.spans if one.parent_id == root.span_id) for root in roots]
    assert names.count(["decode", "prefill", "queue", "stream", "tokenize"]) == 2


def test_a_share_of_the_traces_is_sent(collector: Collector, bundles: list[Path], tmp_path: Path) -> None:
    flags = ["--otlp-endpoint", f"{collector.url}/v1/traces", "--trace-sample", "0.5"]
    sampled = 0
    with served_process(tmp_path / "log", bundles[:1], *flags, **SOON) as server:
        for number in range(200):
            response = ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, f"share-{number}")
            sampled += is_sampled(response)
        always = ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, "always", traceparent=SAMPLED)
        assert is_sampled(always)
    assert server.process.returncode == 0
    assert 60 < sampled < 140  # 5.6 standard deviations
    ids = {span.attributes.get("adamix.request_id", "") for span in collector.spans}
    assert len([one for one in ids if one.startswith("share-")]) == sampled  # the last ones at the end of the server


def test_a_collector_that_is_down_costs_no_request_and_one_line(bundles: list[Path], tmp_path: Path) -> None:
    collector = Collector()
    collector.status = 503
    flags = ["--otlp-endpoint", collector.url, "--log-format", "json"]
    environment = {**SOON, "OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5"}
    with served_process(tmp_path / "log", bundles[:1], *flags, **environment) as server:
        seconds = []
        for number in range(100):
            started = time.monotonic()
            assert ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, f"down-{number}").is_success
            seconds.append(time.monotonic() - started)
        assert sorted(seconds)[50] < 0.1
        stopped = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - stopped < 10
    collector.close()
    assert collector.posts > 0
    warnings = [line for line in server.lines() if line["level"] != "INFO"]
    assert all(line["logger"].startswith("serve.") for line in warnings)
    assert len(warnings) <= 1


def test_a_collector_that_refuses_spans_is_logged_once_and_again_when_it_takes_them(
    bundles: list[Path], tmp_path: Path
) -> None:
    collector = Collector()
    collector.status = 400
    with served_process(tmp_path / "log", bundles[:1], "--otlp-endpoint", collector.url, **SOON) as server:

        def posted(count: int) -> None:
            before = collector.posts
            while collector.posts < before + count:
                ask(server, "/predict", {"inputs": "good", "adapter": "tone"}, "refused")
                time.sleep(0.06)

        posted(4)
        collector.status = 200
        posted(2)
    collector.close()
    log = server.log.read_text()
    assert log.count(f"{collector.url}/v1/traces takes no spans, and they are dropped until it does: ") == 1
    assert log.count(f"{collector.url}/v1/traces takes spans again") == 1


def test_workers_and_those_in_their_place_log_one_outage(bundles: list[Path], tmp_path: Path) -> None:
    collector = Collector()
    collector.status = 400
    flags = ["--otlp-endpoint", collector.url, "--workers", "2"]
    with served_process(tmp_path / "log", bundles[:1], *flags, **SOON) as server:
        supervisor = server.process.pid
        wait_for_workers(server.url, 2, supervisor=supervisor)

        def ask_both(*, posts: int) -> None:
            before = collector.posts
            while collector.posts < before + posts:
                with httpx.Client(base_url=server.url) as one, httpx.Client(base_url=server.url) as two:
                    for client in (one, two):
                        client.post("/predict", json={"inputs": "good", "adapter": "tone"})
                time.sleep(0.1)

        ask_both(posts=6)
        for worker in children(supervisor):
            os.kill(worker, signal.SIGKILL)
            wait_for_workers(server.url, 2, supervisor=supervisor, without=worker)
        ask_both(posts=6)
        collector.status = 200
        ask_both(posts=6)
    collector.close()
    log = server.log.read_text()
    assert (log.count("takes no spans"), log.count("takes spans again")) == (1, 1)


def test_without_the_flag_no_exporter_is_imported_and_nothing_is_sent(bundles: list[Path], tmp_path: Path) -> None:
    """FastAPI imports OpenTelemetry's interfaces, and would export by itself if the environment said so."""
    code = """
import sys
import uvicorn
from serve import cli
run = uvicorn.Server.run
def ended(server, sockets):
    run(server, sockets)
    print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
uvicorn.Server.run = ended
cli.main(sys.argv[1:])
"""
    collector, port = Collector(), free_port()
    asks = {"FASTAPI_OTEL_AUTO_CONFIGURE": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    command = [sys.executable, "-c", code, str(bundles[0]), "--port", str(port), "--provider", "cpu", "--no-cache"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **asks, **SOON}) as process:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=8))
        assert client.post("/predict", json={"inputs": "good", "adapter": "tone"}).is_success
        assert client.post("/predict", json={"inputs": 1}).status_code == 422
        process.terminate()
        output, _ = process.communicate(timeout=30)
    collector.close()
    assert output.strip() == "[]"
    assert collector.posts == 0
