"""Limits of connections: how many there are, and how long and how large the head of a request may be."""

from dataclasses import dataclass

RESERVED = 64
"""Connections beyond the limit that are open for a moment: for health checks, and to say that there are too many."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits of the connections of a server."""

    max_connections: int = 1000
    """Open connections. A further one takes the place of the one that has been without a request for longest; where all
    have requests, it gets 503, health checks alone are answered."""
    header_limit: int = 65_536
    """Bytes of a request's line and headers."""
    max_headers: int = 100
    """Headers of a request."""
    header_timeout: float = 10.0
    """Seconds from the first byte of a request to the end of its headers."""
    write_timeout: float = 60.0
    """Seconds in which a client has to read what was sent to it, at least 64 KB, before more is sent."""
