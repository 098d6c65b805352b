"""gRPC on several workers, whose port the kernel shares out: a rolling restart under load."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.conftest import serve
from tests.reliability.worker_load import children, wait_for, wait_for_workers
from tests.serve.test_cli import free_port

pytestmark = pytest.mark.slow
grpc = pytest.importorskip("grpc")

OK = "OK"


def test_workers_share_grpcs_port_over_tls(classifier_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE
    from tests.fixtures.certificates import Authority

    authority, port = Authority(tmp_path), free_port()
    pair = authority.issue("served")
    files = ("--tls-cert", pair.cert, "--tls-key", pair.key)
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes())

    def models() -> set[str]:
        """Ask over a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            index = channel.unary_unary(
                f"/{SERVICE}/RepositoryIndex",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=MESSAGES["RepositoryIndexResponse"].FromString,
            )
            return {one.name for one in index(MESSAGES["RepositoryIndexRequest"](), timeout=20).models}

    with serve(classifier_folder, "--workers", 2, "--grpc-port", port, "--no-cache", *files) as server:
        wait_for(lambda: sum(line.endswith("is ready") for line in server.log) == 2)
        for _ in range(10):
            assert {"tone", "intent"} <= models()


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_a_rolling_restart_fails_no_call(count: int, classifier_folder: Path, figure: Callable[[str], None]) -> None:
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE

    request = MESSAGES["ModelInferRequest"](model_name="tone")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"good")
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            infer = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=MESSAGES["ModelInferResponse"].FromString,
            )
            while not stop.wait(0.005):
                try:
                    answer: Any = infer(request, timeout=20)
                    outcomes[OK if answer.model_name == "tone" else "wrong"] += 1
                except grpc.RpcError as error:
                    outcomes[f"{error.code().name}: {error.details()}"] += 1

    port = free_port()
    with serve(classifier_folder, "--workers", 2, "--grpc-port", port, "--no-cache") as server:
        supervisor = server.process.pid
        wait_for_workers(server.address, 2, supervisor=supervisor)
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(count):
                before = set(children(supervisor))
                server.process.send_signal(signal.SIGUSR2)
                wait_for(lambda before=before: not before & set(children(supervisor)))  # type: ignore[misc]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    figure(f"{count} rolling restarts under gRPC: {dict(outcomes)}")
    assert set(outcomes) == {OK}
