"""Flags of logs and traces, and what they ask for."""

import argparse
from urllib.parse import urlsplit

from serve.address import without_password
from serve.engine import Engine
from serve.errors import ConfigurationError
from serve.telemetry.access_log import AccessLog
from serve.telemetry.logs import FORMATTERS
from serve.telemetry.outage import Outage
from serve.telemetry.request_observer import RequestObserver, RequestTracer


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of logs and traces."""
    parser.add_argument(
        "--log-format", choices=list(FORMATTERS), default="text", help="form of log lines (default: %(default)s)"
    )
    parser.add_argument(
        "--access-log",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of requests that the log has a line of, from 0 to 1; of those with 5xx it has one always "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--otlp-endpoint",
        type=_collector,
        metavar="URL",
        help="send traces of requests to this OpenTelemetry collector by OTLP over HTTP, such as "
        "http://localhost:4318 (needs the extra otlp; default: send nothing)",
    )
    parser.add_argument(
        "--trace-sample",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="with --otlp-endpoint: share of the traces that are sent, from 0 to 1, where the client has not decided "
        "(default: %(default)g)",
    )


def request_tracer(args: argparse.Namespace, outage: Outage | None = None) -> RequestTracer | None:
    """Return what makes traces; None without --otlp-endpoint, and then no part of OpenTelemetry is imported.

    Args:
        args: The settings.
        outage: State of the collector as the whole server knows it; None is for this process alone.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    if args.otlp_endpoint is None:
        return None
    try:
        from serve.telemetry.otlp import OtlpTracer
    except ImportError as error:
        raise ConfigurationError(
            f"--otlp-endpoint needs the extra otlp ({error}): run pip install '.[cpu,otlp]'"
        ) from error
    return OtlpTracer(args.otlp_endpoint, args.trace_sample, outage or Outage())


def request_observer(engine: Engine, args: argparse.Namespace, outage: Outage | None = None) -> RequestObserver:
    """Return what logs and traces the requests to an engine; see `request_tracer`.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    return RequestObserver(engine, access_log=AccessLog(args.access_log), tracer=request_tracer(args, outage))


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share, which is a number from 0 to 1")
    return value


def _collector(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise argparse.ArgumentTypeError(
            f"{without_password(text)!r} is not the address of a collector, such as http://localhost:4318"
        )
    return text
