import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from serve import cli
from tests.serve.conftest import Reference, write_adapter

SERVE = [sys.executable, "-m", "serve.cli"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(bundle_folder: Path, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    port = free_port()
    process = subprocess.Popen(
        [*SERVE, str(bundle_folder), "--port", str(port), "--provider", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ADAMIX_CACHE": str(tmp_path / "cache")},
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            httpx.get(address + "/health")
            break
        except httpx.TransportError:
            assert process.poll() is None
            time.sleep(0.1)
    yield process, address
    process.kill()
    process.wait()


def failing(*arguments: str) -> str:
    result = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_sigterm_answers_what_was_taken_and_exits_with_zero(
    server: tuple["subprocess.Popen[str]", str],
) -> None:
    process, address = server
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while not stop.is_set():
                try:
                    response = client.post("/predict", json={"inputs": [["good"]] * 8, "adapter": "tone"})
                    answers.append(response.status_code)
                except httpx.TransportError:
                    # The connection was refused, or was idle and closed before it took the request.
                    return

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    while len(answers) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    stop.set()
    for client in clients:
        client.join()
    assert process.returncode == 0
    assert set(answers) <= {200, 503}
    assert answers.count(200) >= 20
    assert "every accepted request is answered" in log
    assert "Traceback" not in log


SIGNALLED_IN_A_WEAK_REFERENCE = """
import signal, sys, weakref
import uvicorn
from serve import cli

class Ended:
    pass

def run(server, sockets, ordinary=uvicorn.Server.run):
    ended = Ended()
    reference = weakref.ref(ended, lambda _: signal.raise_signal(signal.SIGTERM))
    del ended
    ordinary(server, sockets)

uvicorn.Server.run = run
cli.main(sys.argv[1:])
"""
"""A server that is told to stop before uvicorn listens to signals, and where Python ignores exceptions."""


def test_a_signal_that_comes_while_it_starts_is_heeded(bundle_folder: Path) -> None:
    command = [sys.executable, "-c", SIGNALLED_IN_A_WEAK_REFERENCE, str(bundle_folder)]
    result = subprocess.run(
        [*command, "--port", "0", "--provider", "cpu", "--no-cache"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0
    assert "every accepted request is answered" in result.stderr
    assert "Traceback" not in result.stderr


def test_two_interrupts_end_it_at_once_without_a_traceback(server: tuple["subprocess.Popen[str]", str]) -> None:
    process, address = server
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None  # it waits for the other half
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=10)
        assert client.recv(100).startswith(b"HTTP/1.1 503")
    assert process.returncode == 0
    assert "Traceback" not in log


def test_a_hang_up_cuts_no_requests(server: tuple["subprocess.Popen[str]", str]) -> None:
    process, address = server
    with httpx.Client(base_url=address) as client:
        for _ in range(5):
            process.send_signal(signal.SIGHUP)
            assert client.post("/predict", json={"inputs": [["good"]], "adapter": "tone"}).status_code == 200
    process.terminate()
    assert process.wait(timeout=10) == 0


def test_the_log_says_where_it_runs_and_why_and_what_it_keeps(
    server: tuple["subprocess.Popen[str]", str], tmp_path: Path
) -> None:
    process, _ = server
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert log.count("running on CPUExecutionProvider: as requested") == 1
    assert log.count("saved the optimised graph in") == 1
    assert len(list((tmp_path / "cache" / "graphs").iterdir())) == 1


def test_the_log_has_brackets_around_an_address_of_ipv6(bundle_folder: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    command = [*SERVE, str(bundle_folder), "--host", "::1", "--port", "0", "--provider", "cpu", "--no-cache"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in iter(process.stderr.readline, "") if " serving " in line)
        address = line.split(" on ")[-1].strip()
        for _ in range(300):
            try:
                assert httpx.get(f"{address}/health").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        process.terminate()
    assert address.startswith("http://[::1]:")


def test_a_port_in_use_is_one_line(bundle_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = failing(str(bundle_folder), "--port", str(taken.getsockname()[1]))
    assert "cannot listen on" in line
    assert "Address already in use; give another --port" in line


def test_a_flipped_byte_is_one_line(bundle_folder: Path) -> None:
    file = bundle_folder / "model.onnx"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    assert "model.onnx is damaged: its sha256 does not match" in failing(str(bundle_folder), "--port", "0")


@pytest.mark.parametrize("flags", [["--port", "99999"], ["--port", "-1"], ["--threads", "0"], ["--timeout", "-1"]])
def test_impossible_flags_are_refused(bundle_folder: Path, flags: list[str]) -> None:
    result = subprocess.run([*SERVE, str(bundle_folder), *flags], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert flags[0] in result.stderr.splitlines()[-1]


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    assert "there is no bundle folder" in failing(str(tmp_path / "nowhere"), "--port", "0")


def test_help_teaches() -> None:
    text = subprocess.run([*SERVE, "--help"], capture_output=True, text=True).stdout
    assert "curl" in text
    assert "429" in text
    for route in ("/predict", "/v1/chat/completions", "/classify", "/v2/models/NAME/infer", "/invocations", "/metrics"):
        assert route in text


def test_a_hang_up_reads_the_configuration_and_the_adapters_again(
    bundle_folder: Path, tmp_path: Path, reference: Reference
) -> None:
    write_adapter(tmp_path / "grade", reference, "grade")
    config, port = tmp_path / "serve.yaml", free_port()
    start = f"bundles: {bundle_folder}\nprovider: cpu\nno-cache: true\nslots: 4\nport: {port}\n"
    config.write_text(start)
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen([*SERVE, "--config", str(config)], stderr=file) as process:
        try:
            wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200)
            config.write_text(f"{start}adapter: {tmp_path / 'grade'}\n")
            process.send_signal(signal.SIGHUP)
            body = {"inputs": "good", "adapter": "grade"}
            wait_for(lambda: httpx.post(f"http://127.0.0.1:{port}/predict", json=body).status_code == 200)
            config.write_text("prot: 1")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: f"the server runs on as it was: {config}: unknown key 'prot'" in log.read_text())
            assert httpx.post(f"http://127.0.0.1:{port}/predict", json=body).status_code == 200
        finally:
            process.terminate()
    assert process.returncode == 0


def wait_for(true: Callable[[], bool]) -> None:
    for _ in range(300):
        with contextlib.suppress(httpx.TransportError):
            if true():
                return
        time.sleep(0.1)
    raise AssertionError


def test_a_configuration_that_is_wrong_is_one_line(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAMIX_PORT", "many")
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(bundle_folder)])
    assert exit_.value.code == "adamix-serve: ADAMIX_PORT: 'many' is not a whole number"


CHECK = ["--check", "--provider", "cpu", "--no-cache"]


def test_a_check_opens_everything_and_ends(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([str(bundle_folder), *CHECK])
    assert "tone: lora, sha256 " in capsys.readouterr().out
    cli.main([str(bundle_folder), *CHECK, "--json"])
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_check_of_what_cannot_be_served_is_one_line(bundle_folder: Path) -> None:
    (bundle_folder / "model.onnx").write_bytes(b"")
    command = [*SERVE, str(bundle_folder), *CHECK, "--json"]
    environment = {**os.environ, "ADAMIX_PROT": "1"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert found.returncode == 1
    warning, line = found.stderr.splitlines()
    assert warning.endswith("WARNING no setting is called ADAMIX_PROT")
    assert line.startswith("adamix-serve: ")
    assert json.loads(found.stdout) == {"ok": False, "error": line.removeprefix("adamix-serve: ")}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--port", "many"], "argument --port: 'many' is not a whole number"),
        (["--prot", "1"], "unrecognized arguments: --prot 1"),
        (["--grpc-port", "8080"], "--port and --grpc-port are both 8080: give each its own"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file or directory"),
        (
            ["--otlp-endpoint", "htp://me:secret@host"],
            "argument --otlp-endpoint: 'htp://***@host' is not the address of a collector, such as "
            "http://localhost:4318",
        ),
        (
            ["--cors-origin", "foo"],
            "argument --cors-origin: 'foo' is no origin such as https://example.org, and not *",
        ),
    ],
)
def test_a_check_of_wrong_settings_is_one_line_and_json(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bundle", "--check", "--json", *flags])
    assert exit_.value.code == f"adamix-serve: {reason}", "which Python prints, and exits with 1"
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"ok": False, "error": reason}, "")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bundle", "--check", *flags])
    assert (exit_.value.code, capsys.readouterr()) == (f"adamix-serve: {reason}", ("", ""))


def test_a_wrong_flag_without_a_check_tells_how_the_command_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bundle", "--port", "many"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: adamix-serve")


def test_a_check_finds_a_pin_of_nobody(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(bundle_folder), *CHECK, "--json", "--pin", "nobody"])
    assert exit_.value.code == "adamix-serve: --pin nobody: there is no adapter of this name"
    assert json.loads(capsys.readouterr().out)["error"] == "--pin nobody: there is no adapter of this name"


def test_a_check_shows_no_password(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp")
    cli.main([str(bundle_folder), *CHECK, "--json", "--otlp-endpoint", "https://me:secret@collector:4318"])
    told = capsys.readouterr().out
    assert json.loads(told)["settings"]["otlp_endpoint"] == "https://***@collector:4318"
    assert "secret" not in told


def test_a_setting_that_changes_nothing_is_told(
    bundle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    idle = ["--open-metrics", "--trace-sample", "0.5", "--max-lookup-adapters", "3", "--worker-timeout-secs", "9"]
    cli.main([str(bundle_folder), *CHECK, *idle])
    assert [record.message for record in caplog.records if "changes nothing" in record.message] == [
        "--max-lookup-adapters changes nothing without --adapter-lookup",
        "--open-metrics changes nothing without --api-keys",
        "--trace-sample changes nothing without --otlp-endpoint",
        "--worker-timeout-secs changes nothing without --workers",
    ]
    caplog.clear()
    cli.main([str(bundle_folder), *CHECK, "--adapter-lookup", "--adapter-dir", str(tmp_path), *idle[3:5]])
    assert "changes nothing" not in caplog.text


def test_help_beside_a_check_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--check", "--json", "--help"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("usage: adamix-serve")
