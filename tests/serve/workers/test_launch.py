"""What differs where several processes serve, with real workers."""

import socket
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve import cli
from serve.api_keys import ApiKeys
from serve.args import parse_args
from serve.errors import ConfigurationError
from serve.server import Server
from serve.workers.launch import SingleProcess
from tests.reliability.conftest import serve
from tests.reliability.worker_load import metric, wait_for_workers
from tests.serve.test_cli import free_port

pytestmark = pytest.mark.slow


def test_alone_nothing_differs() -> None:
    process, engine, args = SingleProcess(), object(), Namespace(threads=None)
    assert process.share(engine, {}) is engine  # type: ignore[arg-type, comparison-overlap]
    assert process.settings(args) is args
    assert type(process.api_keys({})) is ApiKeys
    made = process.server(None, engine, None)
    assert type(made) is Server


def test_the_workers_share_grpcs_port(bundle_folder: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE

    def ready(port: int) -> Any:
        """Ask over a connection of its own."""
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(
                f"/{SERVICE}/RepositoryIndex",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=MESSAGES["RepositoryIndexResponse"].FromString,
            )
            return method(MESSAGES["RepositoryIndexRequest"](), timeout=20)

    port = free_port()
    with serve(bundle_folder, "--workers", 2, "--grpc-port", port, "--no-cache") as server:
        wait_for_workers(server.address, 2, supervisor=server.process.pid)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        for _ in range(20):
            assert {"tone", "intent"} <= {model.name for model in ready(port).models}
        counted = metric(server.address, 'adamix_requests_total{code="OK",method="RepositoryIndex"}')
    assert counted == 20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "2", "--grpc-port", "0"], "--grpc-port 0 would give each of the --workers a port of its own"),
        (["--workers", "0"], "--workers: 0 is not positive"),
        (["--workers", "100000"], "--workers 100000 is more than the "),
        (["--workers", "100000", "--check"], "--workers 100000 is more than the "),
        (["--worker-timeout-secs", "0"], "--worker-timeout-secs: 0 is not positive"),
    ],
)
def test_what_cannot_be_is_refused(flags: list[str], message: str, tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-m", "serve.cli", str(tmp_path), *flags], capture_output=True, text=True)
    assert found.returncode in (1, 2)
    assert message in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(("cores", "most"), [(1, 8), (2, 8), (3, 12), (64, 256)])
def test_the_bound_of_workers_follows_the_cores(cores: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert parse_args(["bundle", "--workers", str(most)]).workers == most
    message = f"--workers {most + 1} is more than the {most} that a server with {cores} cores may have"
    with pytest.raises(ConfigurationError, match=message):
        parse_args(["bundle", "--workers", str(most + 1)])


def test_a_port_in_use_is_reported_once(bundle_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "serve.cli", str(bundle_folder), "--workers", "2", "--port", port]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert found.stderr.count("cannot listen on") == 1


@pytest.mark.parametrize(("folder", "message"), [("d" * 100, "too long a name for sockets"), ("nowhere", "TMPDIR")])
def test_a_place_for_temporary_files_that_does_not_do_is_one_line(
    folder: str, message: str, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder != "nowhere":
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / folder))
    with pytest.raises(SystemExit, match=message):
        cli.main([str(bundle_folder), "--workers", "2", "--port", "0"])


def test_more_workers_than_cores_run_one_thread_each(bundle_folder: Path) -> None:
    with serve(bundle_folder, "--workers", 3, "--no-cache") as server:
        wait_for_workers(server.address, 3, supervisor=server.process.pid)
        body = {"inputs": "good", "adapter": "tone"}
        assert httpx.post(f"{server.address}/predict", json=body, timeout=30).status_code == 200
