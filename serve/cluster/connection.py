"""The connection to a Ray cluster, refused in one line where there is none."""

import contextlib
import io
import os
import socket
from typing import Any

import grpc
import ray
from ray._private.services import canonicalize_bootstrap_address_or_die

from serve.cluster.token import LOCAL
from serve.errors import ConfigurationError

ANSWER_SECONDS = 5.0
"""Time in which a cluster's head has to take a connection. Ray itself tries for minutes, and tells nobody."""


def connect(address: str, **options: Any) -> None:
    """Connect this process to a Ray cluster.

    Args:
        address: `auto` for that of this node (or of the variable RAY_ADDRESS), `local`, or HOST:PORT of a head.
        options: Arguments of `ray.init`.

    Raises:
        ConfigurationError: The address is none, or no cluster answers there.
    """
    try:
        if address != LOCAL:
            address = _answering(address)
        ray.init(address=address, **options)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"there is no Ray cluster at {address or repr(address)} ({_sentence(error)}): start one with ray start "
            "--head, or give --ray local; one that asks for a token needs RAY_AUTH_MODE=token and the token in the "
            "environment"
        ) from error


def _answering(address: str) -> str:
    """Return HOST:PORT of an address where something takes a connection.

    Raises:
        OSError: Nothing does.
        ValueError: It is no address.
    """
    if "://" in address:
        raise ValueError("an address is auto, local or HOST:PORT; Ray's client, ray://, is not supported")
    with contextlib.redirect_stderr(io.StringIO()):  # Ray prints an address that it cannot read twice
        found = str(canonicalize_bootstrap_address_or_die(address))
    host, _, port = found.rpartition(":")
    if not port.isdecimal():
        raise ValueError("an address is auto, local or HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS):
        pass
    if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
        _check_protocol(found)
    return found


def _check_protocol(place: str) -> None:
    """Raise an OSError if what listens there does not speak gRPC, as a head does."""
    with grpc.insecure_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise OSError("what listens there is no head of a Ray cluster") from error


def _sentence(error: Exception) -> str:
    """Return the reason of an error in one line."""
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split()).rstrip(".")
