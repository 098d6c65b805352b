import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.errors import ConfigurationError
from serve.tls import Tls, TlsFiles, read_tls

pytest.importorskip("cryptography")
from tests.fixtures.certificates import Authority, Pair

SERVE = [sys.executable, "-m", "serve.cli"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    """A client's context that trusts an authority, and presents a certificate."""
    context = ssl.create_default_context(cafile=str(authority.cert))
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(cert=pair.cert, key=pair.key, client_ca=client_ca)


def wrong_files(authority: Authority) -> dict[str, tuple[TlsFiles, str]]:
    """Files that cannot be used, each with what is said of them."""
    good, other = authority.issue("good"), authority.issue("other")
    folder = authority.folder
    (folder / "text.pem").write_text("no PEM")
    (folder / "binary.pem").write_bytes(bytes(range(256)))
    broken = good.cert.read_bytes().replace(b"MII", b"!!!", 1)
    (folder / "broken.pem").write_bytes(broken)
    (folder / "broken.key").write_bytes(good.key.read_bytes()[:100])
    nowhere = folder / "nowhere.pem"

    def given(**changes: Path) -> TlsFiles:
        return TlsFiles(**{"cert": good.cert, "key": good.key, **changes})

    return {
        "no certificate": (given(cert=nowhere), "--tls-cert: .*nowhere.pem cannot be read: No such file"),
        "no key": (given(key=nowhere), "--tls-key: .*nowhere.pem cannot be read: No such file"),
        "no authority": (given(client_ca=nowhere), "--tls-client-ca: .*nowhere.pem cannot be read: No such file"),
        "a folder": (given(cert=folder), "--tls-cert: .* cannot be read: Is a directory"),
        "text": (given(cert=folder / "text.pem"), r"--tls-cert: .*text.pem has no certificate in PEM"),
        "binary": (given(key=folder / "binary.pem"), r"--tls-key: .*binary.pem has no private key in PEM"),
        "a key for a certificate": (given(cert=good.key), "has no certificate in PEM"),
        "a certificate for a key": (given(key=good.cert), "has no private key in PEM"),
        "another's key": (given(key=other.key), "--tls-key: .*other.key is not the key of .*good.pem"),
        "a broken certificate": (given(cert=folder / "broken.pem"), "broken.pem or .* is damaged"),
        "a broken key": (given(key=folder / "broken.key"), "or .*broken.key is damaged"),
        "expired": (files(authority.issue("old", days=-1)), "--tls-cert: .*old.pem: certificate has expired"),
        "a password": (files(authority.issue("locked", password=b"x")), "--tls-key: .*locked.key is encrypted"),
        "no certificate of an authority": (
            given(client_ca=other.cert),
            "--tls-client-ca: .*other.pem has no certificate of an authority",
        ),
    }


def test_files_that_cannot_be_used_are_one_line(authority: Authority) -> None:
    for case, (wrong, message) in wrong_files(authority).items():
        with pytest.raises(ConfigurationError, match=message) as error:
            read_tls(wrong)
        assert "\n" not in str(error.value), case


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_key_that_may_not_be_read_is_one_line(authority: Authority) -> None:
    pair = authority.issue("good")
    pair.key.chmod(0)
    with pytest.raises(ConfigurationError, match=r"--tls-key: .*good\.key cannot be read: Permission denied"):
        read_tls(files(pair))


def test_a_chain_is_sent_whole(authority: Authority) -> None:
    pair = authority.issue("good")
    pair.cert.write_bytes(pair.cert.read_bytes() + authority.cert.read_bytes())
    assert read_tls(files(pair)).cert.count(b"BEGIN CERTIFICATE") == 2


def test_a_renewed_certificate_is_taken_up_and_a_wrong_one_is_not(authority: Authority) -> None:
    first, second = authority.issue("first"), authority.issue("second")
    tls = Tls(read_tls(files(first)))
    assert not tls.take_up(read_tls(files(first)))
    with pytest.raises(ConfigurationError, match="is not the key of"):
        read_tls(TlsFiles(cert=second.cert, key=first.key))
    assert served_name(tls, authority) == "first"
    assert tls.take_up(read_tls(files(second)))
    assert served_name(tls, authority) == "second"
    assert tls.content.cert == second.cert.read_bytes()


def served_name(tls: Tls, authority: Authority) -> str:
    """Return the name in the certificate that a context presents now."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return name_in(client.getpeercert())


def name_in(certificate: Any) -> str:
    return str(certificate["subject"][0][0][1])


def connected(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if true():
                return
        assert time.monotonic() < end
        time.sleep(0.1)


@contextlib.contextmanager
def serving(bundle: Path, log: Path, *flags: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command; its log goes into a file."""
    command = [*SERVE, bundle, "--provider", "cpu", "--no-cache", *flags]
    with log.open("w") as file, subprocess.Popen([str(one) for one in command], stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()
    assert process.returncode == 0


def test_http_over_tls_takes_up_a_renewed_certificate(
    bundle_folder: Path, authority: Authority, tmp_path: Path
) -> None:
    pair, port = authority.issue("served"), free_port()
    log = tmp_path / "log"
    body = {"inputs": "good", "adapter": "tone"}

    def name() -> str:
        with connected(port, trusting(authority)) as secure:
            return name_in(secure.getpeercert())

    flags = ["--port", str(port), "--tls-cert", pair.cert, "--tls-key", pair.key]
    with (
        serving(bundle_folder, log, *flags) as process,
        httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting(authority)) as client,
    ):
        eventually(lambda: client.get("/health/ready").status_code == 200)
        assert client.post("/predict", json=body).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health")
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"https://127.0.0.1:{port}/health")
        assert name() == "served"
        renewed = authority.issue("renewed")
        pair.key.write_bytes(renewed.key.read_bytes())
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "served.key is not the key of" in log.read_text())
        assert name() == "served"
        pair.cert.write_bytes(renewed.cert.read_bytes())
        process.send_signal(signal.SIGHUP)
        eventually(lambda: name() == "renewed")
        assert client.post("/predict", json=body).status_code == 200  # on the connection that it has
    assert f"on https://127.0.0.1:{port}" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_with_an_authority_for_clients_only_theirs_are_answered(
    bundle_folder: Path, authority: Authority, tmp_path: Path
) -> None:
    pair, port = authority.issue("served"), free_port()
    (tmp_path / "clients").mkdir()
    clients = Authority(tmp_path / "clients", "clients")
    known, unknown = clients.issue("known"), authority.issue("unknown")
    flags = ["--port", str(port), "--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-client-ca", clients.cert]
    with serving(bundle_folder, tmp_path / "log", *flags):
        address = f"https://127.0.0.1:{port}/health"
        eventually(lambda: httpx.get(address, verify=trusting(authority, known)).status_code == 200)
        for client in (None, unknown):
            with pytest.raises(httpx.TransportError):
                httpx.get(address, verify=trusting(authority, client))
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_wrong_files_are_one_line_at_start_and_in_a_check(
    bundle_folder: Path, authority: Authority, flags: list[str]
) -> None:
    pair = authority.issue("old", days=-1)
    command = [*SERVE, bundle_folder, "--port", "0", "--no-cache", "--tls-cert", pair.cert, "--tls-key", pair.key]
    found = subprocess.run([*map(str, command), *flags], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert found.stderr.splitlines()[-1] == f"adamix-serve: --tls-cert: {pair.cert}: certificate has expired"


@pytest.mark.parametrize("given", ["cert", "key", "client-ca"])
def test_a_flag_of_tls_without_the_others_is_one_line(bundle_folder: Path, given: str) -> None:
    command = [*SERVE, str(bundle_folder), f"--tls-{given}", "file.pem", "--check", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    reason = f"--tls-{given}: TLS needs both --tls-cert and --tls-key"
    assert found.stderr.splitlines() == [f"adamix-serve: {reason}"]
    assert json.loads(found.stdout) == {"ok": False, "error": reason}


def test_a_client_that_does_not_shake_hands_is_cut_off(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.event_loop import ServerLoop

    monkeypatch.setattr("serve.event_loop.HANDSHAKE_SECONDS", 0.3)
    context = Tls(read_tls(files(authority.issue("served")))).context

    async def run() -> float:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        server.close()
        return time.monotonic() - started

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert 0.2 < runner.run(run()) < 5


def test_grpc_over_tls_takes_up_a_renewed_certificate(authority: Authority) -> None:
    grpc = pytest.importorskip("grpc")
    from serve.grpc.messages import MESSAGES
    from serve.grpc.server import SERVICE, GrpcServer
    from tests.fixtures.toy_engine import ToyEngine

    first, second, client = authority.issue("first"), authority.issue("second"), authority.issue("client")
    tls = Tls(read_tls(files(first, authority.cert)))

    def live(port: int, pair: Pair | None) -> bool:
        key, cert = (None, None) if pair is None else (pair.key.read_bytes(), pair.cert.read_bytes())
        credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes(), key, cert)
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            ask = channel.unary_unary(
                f"/{SERVICE}/ServerLive",
                request_serializer=lambda one: one.SerializeToString(),
                response_deserializer=MESSAGES["ServerLiveResponse"].FromString,
            )
            return bool(ask(MESSAGES["ServerLiveRequest"](), timeout=10).live)

    def name(port: int) -> str:
        context = trusting(authority, client)
        context.set_alpn_protocols(["h2"])
        with connected(port, context) as secure:
            return name_in(secure.getpeercert())

    async def run() -> None:
        server = GrpcServer(ToyEngine(), "127.0.0.1", 0, limit=1, payload_limit=1000, tls=tls)
        await server.start()
        assert await asyncio.to_thread(live, server.port, client)
        with pytest.raises(grpc.RpcError):
            await asyncio.to_thread(live, server.port, None)
        assert await asyncio.to_thread(name, server.port) == "first"
        tls.take_up(read_tls(files(second)))
        assert await asyncio.to_thread(name, server.port) == "second"
        assert await asyncio.to_thread(live, server.port, client)
        await server.stop(0)

    asyncio.run(run())
