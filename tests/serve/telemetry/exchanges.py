"""Requests that have been answered, for tests."""

from typing import Any

from serve.telemetry.exchange import Exchange


def exchange(**changes: Any) -> Exchange:
    fields: dict[str, Any] = {
        "protocol": "http",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "failed": False,
        "client": "127.0.0.1",
        "end_time": 2.5,
        "bytes_in": 10,
        "bytes_out": 20,
    }
    return Exchange(**{**fields, **changes})
