"""TLS of a server: a certificate with its key, and perhaps the authority whose clients are answered."""

import ssl
import time
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
    """The TLS of a running server; `reload` takes up a renewed certificate."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            ConfigurationError: A file cannot be read, is something else, does not match or has expired.
        """
        self.files = files
        self.content = read_tls(files)
        self.context = _context(files)
        """Context of HTTP; connections that are open keep the certificate that they began with."""
        if files.client_ca is not None:
            self.context.load_verify_locations(files.client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def reload(self, cert: Path, key: Path) -> bool:
        """Take up a certificate and its key, if they have changed; return whether they have.

        Raises:
            ConfigurationError: They are not to be used, and those before stay.
        """
        files = TlsFiles(cert=cert, key=key, client_ca=self.files.client_ca)
        content = read_tls(files)
        if (content.cert, content.key) == (self.content.cert, self.content.key):
            return False
        _load(self.context, files)
        self.files = files
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


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and later
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files)
    return context


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
