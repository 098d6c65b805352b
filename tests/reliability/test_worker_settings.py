"""Settings of several workers: a reload that fails changes nothing, and a worker that dies comes back with them."""

import contextlib
import hashlib
import os
import signal
import socket
import ssl
from pathlib import Path

import httpx
import pytest

pytest.importorskip("cryptography")
from tests.fixtures.certificates import Authority
from tests.reliability.conftest import Server, serve
from tests.reliability.worker_load import children, wait_for
from tests.serve.test_tls import name_in

pytestmark = pytest.mark.slow


def entry(name: str) -> str:
    """A key that is its own name."""
    return f'[{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'


def told(server: Server, text: str) -> int:
    return sum(text in line for line in server.log)


def statuses(server: Server, *keys: str, verify: ssl.SSLContext | bool = True) -> list[list[int]]:
    """Status of a request with each key, on two connections, which are those of two workers."""
    body = {"inputs": "good", "adapter": "tone"}
    with (
        httpx.Client(base_url=server.address, verify=verify, timeout=30) as one,
        httpx.Client(base_url=server.address, verify=verify, timeout=30) as two,
    ):
        return [
            [client.post("/predict", json=body, headers={"x-api-key": key}).status_code for key in keys]
            for client in (one, two)
        ]


def restart_all(server: Server) -> None:
    """Kill each worker, and wait until another one is in its place."""
    for worker in children(server.process.pid):
        ready = told(server, "is ready")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda ready=ready: told(server, "is ready") == ready + 1)  # type: ignore[misc]


def test_workers_come_back_with_what_the_others_run_with(classifier_folder: Path, tmp_path: Path) -> None:
    (keys := tmp_path / "keys.toml").write_text(entry("old"))
    config = tmp_path / "serve.yaml"
    config.write_text(f"workers: 2\napi-keys: {keys}\nmax-client-batch-size: 9\n")
    with serve(classifier_folder, "--config", config, "--no-cache") as server:
        wait_for(lambda: told(server, "is ready") == 2)
        keys.write_text(entry("old") + entry("new"))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told(server, "INFO reloaded") == 2)
        assert statuses(server, "old", "new", "other") == [[200, 200, 401]] * 2
        keys.write_text(entry("other") + "nonsense")
        config.write_text(f"workers: 2\napi-keys: {keys}\nmax-client-batch-size: 1\nno-such-key: 1\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told(server, "keeps its settings, and so do those behind it") == 1)
        assert told(server, "nothing was reloaded, and the server runs on as it was: ") == 1
        assert told(server, "INFO reloaded") == 2
        restart_all(server)
        assert statuses(server, "old", "new", "other") == [[200, 200, 401]] * 2
        batch = {"inputs": [["good"]] * 9, "adapter": "tone"}
        assert httpx.post(f"{server.address}/predict", json=batch, headers={"x-api-key": "new"}).status_code == 200
        keys.write_text(entry("other"))
        config.write_text(f"workers: 2\napi-keys: {keys}\nmax-client-batch-size: 1\n")
        before = set(children(server.process.pid))
        server.process.send_signal(signal.SIGUSR2)  # which reads all anew
        wait_for(lambda: not before & set(children(server.process.pid)))
        assert statuses(server, "old", "other") == [[401, 200]] * 2
        restart_all(server)
        assert statuses(server, "old", "other") == [[401, 200]] * 2


def test_tls_is_that_of_all_workers(classifier_folder: Path, tmp_path: Path) -> None:
    """Each worker shakes hands, a renewed certificate is taken up by all, and a broken one by none, started again or
    not."""
    authority = Authority(tmp_path)
    first, second = authority.issue("first"), authority.issue("second")
    (keys := tmp_path / "keys.toml").write_text(entry("some"))
    for name, file in (("cert", first.cert), ("key", first.key)):
        (tmp_path / f"served.{name}").write_bytes(file.read_bytes())
    files = ("--tls-cert", tmp_path / "served.cert", "--tls-key", tmp_path / "served.key", "--api-keys", keys)
    trusting = ssl.create_default_context(cafile=str(authority.cert))

    def names() -> set[str]:
        """Names in the certificates of a few connections, all of which are open at a time."""
        place = ("127.0.0.1", httpx.URL(server.address).port)
        with contextlib.ExitStack() as stack:
            return {
                name_in(
                    stack.enter_context(
                        trusting.wrap_socket(socket.create_connection(place, timeout=10), server_hostname=place[0])
                    ).getpeercert()
                )
                for _ in range(4)
            }

    with serve(classifier_folder, "--workers", 2, "--no-cache", *files) as server:
        wait_for(lambda: told(server, "is ready") == 2)
        assert server.address.startswith("https://")
        assert statuses(server, "some", verify=trusting) == [[200]] * 2
        assert names() == {"first"}
        (tmp_path / "served.cert").write_bytes(second.cert.read_bytes())  # without its key
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told(server, "is not the key of") == 1)
        assert names() == {"first"}
        restart_all(server)
        assert names() == {"first"}
        assert statuses(server, "some", verify=trusting) == [[200]] * 2
        (tmp_path / "served.key").write_bytes(second.key.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told(server, "INFO reloaded") == 2)
        assert names() == {"second"}
