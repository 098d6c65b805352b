"""The access log: a line for a share of the requests, and for every failure of the server."""

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

from serve.request_context import RequestContext
from serve.telemetry.exchange import Exchange, usage_of
from serve.telemetry.logs import FIELDS, REQUEST

logger = logging.getLogger(__name__)


class AccessLog:
    """Lines with method, route, status, adapters, time, tokens and bytes of requests, never their texts."""

    def __init__(self, share: float, *, draw: Callable[[], float] = random.random) -> None:
        """Log a share of the requests, from 0 to 1; `draw` returns a number below 1 for each."""
        self.share, self.draw = share, draw

    def draws(self) -> bool:
        """Return whether a request that begins is one of the share; one that the server fails to answer always is."""
        return self.share > 0 and self.draw() < self.share

    def write(self, request: RequestContext, exchange: Exchange, events: Sequence[Any]) -> None:
        """Log a request."""
        usage = usage_of(request, events)
        fields = {
            "protocol": exchange.protocol,
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "adapters": ",".join(usage.adapters) or None,
            "seconds": round(exchange.end_time - request.start_time, 6),
            "tokens_in": usage.tokens_in,
            "tokens_out": usage.tokens_out,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "client": exchange.client,
        }
        known = {name: value for name, value in fields.items() if value is not None}
        logger.info("request", extra={FIELDS: known, REQUEST: request})
