"""Log lines of the process, as text or as JSON, each with the request that it belongs to."""

import json
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from serve.request_context import RequestContext, current_request

logger = logging.getLogger(__name__)
REQUEST = "request"
"""Attribute of a record that has a request other than the current one."""
FIELDS = "fields"
"""Attribute of a record with further values by name."""


class TextFormatter(logging.Formatter):
    """One line a record, with the id of its request in brackets; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record; what clients sent cannot begin a line of its own."""
        message = record.getMessage().strip().replace("\r", r"\r").replace("\n", r"\n")
        line = f"{self.formatTime(record)} {record.levelname} {message}"
        line += "".join(f" {name}={value}" for name, value in _fields(record).items())
        request = request_of(record)
        if request is not None:
            line += f" [request {request.request_id}]"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and where there are such request, trace, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object of a record, in ASCII."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().strip(),
        }
        request = request_of(record)
        if request is not None:
            line["request_id"] = request.request_id
            if request.trace_id:
                line["trace_id"] = request.trace_id
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0]
            line["exception"] = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line | _fields(record), default=str)


FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
"""Formatters by the value of --log-format."""


def configure_logging(log_format: str, level: int) -> None:
    """Write all that the process logs to standard error: warnings and exceptions that nobody handles as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATTERS[log_format]())
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def request_of(record: logging.LogRecord) -> RequestContext | None:
    """Return the request that a record belongs to, or None."""
    given: RequestContext | None = getattr(record, REQUEST, None)
    return given or current_request.get()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = getattr(record, FIELDS, {})
    return found


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread is not None else "a thread"
        logger.error("%s failed", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
