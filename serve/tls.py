"""TLS of a server: a certificate with its key, and perhaps the authority whose clients are answered."""

import contextlib
import os
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from serve.errors import ConfigurationError

HANDSHAKE_SECONDS = 10.0
"""Time in which a client has to shake hands; no other limit of connections holds before that."""


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """The files of a server's TLS, in PEM."""

    cert: Path
    """The server's certificate, and behind it those of authorities between it and a root."""
    key: Path
    client_ca: Path | None = None
    """Authorities, one of which must have signed a client's certificate; None asks clients for none."""


@dataclass(frozen=True, kw_only=True)
class TlsContent:
    """The bytes of the files, which belong together and are valid now."""

    cert: bytes
    key: bytes
    client_ca: bytes | None


class Tls:
    """The TLS of a running server; `take_up` changes its certificate."""

    def __init__(self, content: TlsContent) -> None:
        """Serve with what `read_tls` returns, or returned when another process of the server read it."""
        self.content = content
        self.context = _server_context()
        """Context of HTTP; connections that are open keep the certificate that they began with."""
        _load_content(self.context, content)
        if content.client_ca is not None:
            self.context.load_verify_locations(cadata=content.client_ca.decode("ascii", "ignore"))
            self.context.verify_mode = ssl.CERT_REQUIRED

    def take_up(self, content: TlsContent) -> bool:
        """Take up another certificate and key, which `read_tls` has checked; return whether they have changed."""
        if (content.cert, content.key) == (self.content.cert, self.content.key):
            return False
        _load_content(self.context, content)
        self.content = TlsContent(cert=content.cert, key=content.key, client_ca=self.content.client_ca)
        return True


def read_tls(files: TlsFiles) -> TlsContent:
    """Return the content of files that a server can use.

    Raises:
        ConfigurationError: A file cannot be read, is something else, does not match or has expired.
    """
    content = TlsContent(
        cert=_read("--tls-cert", files.cert, b"-----BEGIN CERTIFICATE-----", "certificate"),
        key=_read("--tls-key", files.key, b"PRIVATE KEY-----", "private key"),
        client_ca=None
        if files.client_ca is None
        else _read("--tls-client-ca", files.client_ca, b"-----BEGIN CERTIFICATE-----", "certificate"),
    )
    _check_certificate(files, _context(files))
    if files.client_ca is not None:
        _check_authorities(files.client_ca)
    return content


def _read(flag: str, file: Path, mark: bytes, what: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{flag}: {file} cannot be read: {error.strerror}") from error
    if mark not in content:
        raise ConfigurationError(f"{flag}: {file} has no {what} in PEM, with a line such as -----BEGIN …-----")
    return content


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and later
    context.set_alpn_protocols(["http/1.1"])
    return context


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = _server_context()
    _load(context, files)
    return context


def _load_content(context: ssl.SSLContext, content: TlsContent) -> None:
    """Load a certificate and its key from memory; OpenSSL takes them as files alone, which these are for a moment."""
    with _in_memory(content.cert) as cert, _in_memory(content.key) as key:
        _load(context, TlsFiles(cert=cert, key=key))


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[Path]:
    """Yield the path of a file that only this process sees, in memory."""
    with open(os.memfd_create("adamix-tls"), "wb") as file:
        file.write(content)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    def refuse() -> NoReturn:
        raise ConfigurationError(f"--tls-key: {files.key} is encrypted: give a key without a password")

    try:
        context.load_cert_chain(files.cert, files.key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"--tls-key: {files.key} is not the key of {files.cert}") from error
        reason = (error.reason or "unknown").lower().replace("_", " ")
        raise ConfigurationError(f"--tls-cert: {files.cert} or {files.key} is damaged: {reason}") from error
    except OSError as error:
        raise ConfigurationError(f"--tls-cert: {files.cert} cannot be read: {error.strerror}") from error


def _check_certificate(files: TlsFiles, server: ssl.SSLContext) -> None:
    """Shake hands with the server as a client that trusts this very certificate; only its dates and use can fail."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(files.cert)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    try:
        for end in (*ends, *ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(f"--tls-cert: {files.cert}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise ConfigurationError(f"--tls-cert: {files.cert} cannot be used: {error.reason}") from error


def _check_authorities(file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigurationError(f"--tls-client-ca: {file} is damaged: {error.reason or error}") from error
    authorities = context.get_ca_certs()
    if not authorities:
        raise ConfigurationError(f"--tls-client-ca: {file} has no certificate of an authority")
    if all(ssl.cert_time_to_seconds(str(one["notAfter"])) < time.time() for one in authorities):
        raise ConfigurationError(f"--tls-client-ca: {file}: certificate has expired")
