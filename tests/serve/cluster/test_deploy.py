import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from benchmarks.support.processes import free_port
from serve.cli import main
from serve.cluster.deploy import IMPORT_PATH, missing_room
from serve.cluster.settings import ClusterSettings, command_line
from tests.fixtures.ray_node import ENVIRONMENT, NO_TURN, STARTS
from tests.serve.conftest import bundle_folder, reference

__all__ = ["bundle_folder", "reference"]


def test_a_configuration_for_rays_own_command_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["deploy", "/bundles/one", "--slots", "4", "--max-replicas", "3", "--port", "9000", "--print-config"])
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["http_options"] == {"host": "0.0.0.0", "port": 9000}
    (application,) = document["applications"]
    assert (application["name"], application["route_prefix"], application["import_path"]) == (
        "adamix",
        "/",
        IMPORT_PATH,
    )
    cluster, argv = command_line(application["args"])
    assert (cluster.max_replicas, argv) == (3, ["--slots=4", "/bundles/one"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give a BUNDLE"),
        (["/b", "--workers", "2"], "--workers means nothing on a cluster: --max-replicas"),
        (["/nowhere"], "there is no bundle folder /nowhere"),
        (["/b", "--slotz", "2"], "unknown setting --slotz"),
        (["/b", "--cpus-per-replica=-1"], "--cpus-per-replica is -1.0; it takes a number from 0 on"),
        (["/b", "--cpus-per-replica", "nan"], "--cpus-per-replica is nan; it takes"),
        (["/b", "--gpus-per-replica", "inf"], "--gpus-per-replica is inf; it takes"),
        (["/b", "--target-requests", "0"], "--target-requests is 0.0; it takes a number from 0.001 on"),
        (["/b", "--name", ""], "--name is '': give the application a name"),
    ],
)
def test_mistakes_end_with_one_line(flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^adamix-serve deploy: {message}"):
        main(["deploy", *flags])


def test_without_ray_the_extra_is_named(bundle_folder: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from serve.cli import main; main(['deploy', sys.argv[1]])"
    found = subprocess.run([sys.executable, "-c", code, str(bundle_folder)], capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("adamix-serve deploy: deploy needs the extra ray (")


def test_a_replica_that_fits_no_node_is_told() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    assert missing_room(ClusterSettings(cpus_per_replica=8, gpus_per_replica=1), nodes) == []
    assert missing_room(ClusterSettings(cpus_per_replica=9, gpus_per_replica=0), nodes) == [
        "--cpus-per-replica 9 is more than any node has (8): no replica starts until one joins"
    ]
    assert len(missing_room(ClusterSettings(cpus_per_replica=1, gpus_per_replica=2), [])) == 2


def start(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start the command, and again where Ray's processes had no turn in time; return it once it serves."""
    for remaining in reversed(range(STARTS)):
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
            )
        end = time.monotonic() + 240
        while "is served on" not in log.read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.5)
        if "is served on" in log.read_text():
            return process
        process.kill()
        process.wait()
        if NO_TURN not in log.read_text() or not remaining:
            break
    raise AssertionError(log.read_text()[-3000:])


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(bundle_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "serve.cli", "deploy", str(bundle_folder), "--port", str(port), "--ray", "local"]
    options = ["--provider", "cpu", "--threads", "1", "--no-cache", "--root-path", "/nlp", "--cpus-per-replica", "0.5"]
    process = start([*command, *options], log)
    try:
        assert f"adamix is served on http://127.0.0.1:{port}/nlp" in log.read_text()
        found = httpx.post(
            f"http://127.0.0.1:{port}/nlp/predict", json={"inputs": "good", "adapter": "tone"}, timeout=240
        )
        assert (found.status_code, found.headers["x-adapter"]) == (200, "tone")
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
