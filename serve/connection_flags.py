"""Flags of TLS and of connections, and what they ask for."""

import argparse
from pathlib import Path

from serve.connection_limits import ConnectionLimits
from serve.errors import ConfigurationError
from serve.tls import TlsFiles

TLS: dict[str, str] = {
    "--tls-cert": "serve HTTP and gRPC over TLS, with this certificate in PEM and those of authorities behind it",
    "--tls-key": "private key of --tls-cert, in PEM, without a password",
    "--tls-client-ca": "with --tls-cert: answer only clients with a certificate of these authorities (PEM)",
}
"""Flags of TLS, and their help."""


def add_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of TLS; those of connections are among the limits."""
    for flag, what in TLS.items():
        parser.add_argument(flag, type=Path, metavar="FILE", help=what)


def tls_files(args: argparse.Namespace) -> TlsFiles | None:
    """Return the files of TLS, or None without.

    Raises:
        ConfigurationError: One is named without another that it needs.
    """
    given = [flag for flag in TLS if getattr(args, flag[2:].replace("-", "_")) is not None]
    if not given:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise ConfigurationError(f"{given[0]}: TLS needs both --tls-cert and --tls-key")
    return TlsFiles(cert=args.tls_cert, key=args.tls_key, client_ca=args.tls_client_ca)


def connection_limits(args: argparse.Namespace) -> ConnectionLimits:
    """Return the limits of connections."""
    return ConnectionLimits(
        max_connections=args.max_connections,
        header_limit=args.header_limit,
        header_timeout=args.header_timeout_secs,
        write_timeout=args.write_timeout_secs,
    )
