"""ASGI middleware: pages of other origins change nothing, unless their origin is named."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import NotAllowed, shortened
from serve.http.body_limit import refuse
from serve.http.error_responses import ErrorResponder

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing; what they read, browsers keep from pages of other origins."""
DEFAULT_PORTS = {"http": 80, "https": 443}
"""Ports that browsers leave out of an origin and of a host, by the scheme of the page."""
MAX_ORIGIN = 100


class OriginMiddleware:
    """Return 403 for a POST from a page whose origin is neither named nor the server's own.

    Browsers send such a request without asking first where it has no body or one of plain text, and name the page's
    origin in it. Other clients name none and are let through.
    """

    def __init__(
        self, app: ASGIApp, errors: ErrorResponder, origins: Sequence[str] = (), *, on_loopback: bool = False
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            errors: Builds the response.
            origins: Origins whose pages may call the server; `*` is any.
            on_loopback: The server listens on loopback alone, so that no other name than localhost is its own.
        """
        self.app, self.errors, self.origins, self.on_loopback = app, errors, frozenset(origins), on_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] not in READING and "*" not in self.origins:
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            asking = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"]
            if other := [origin for origin in asking if not self._is_allowed(origin, host)]:
                text = f"pages of {shortened(other[0], MAX_ORIGIN)} may not call this server: --cors-origin names "
                error = NotAllowed(f"{text}the origins that may")
                await refuse(self.errors.error_response(scope["path"], error), scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin in self.origins or is_own_origin(origin, host, on_loopback=self.on_loopback)


def is_own_origin(origin: str, host: str, *, on_loopback: bool = False) -> bool:
    """Return True if a page's origin is that of a server that was asked as `host`, a name or address with its port.

    A name that somebody else lets point to the server's address (DNS rebinding) gives a page such an origin as well.
    A server on loopback alone has only localhost and addresses as its own.
    """
    try:
        page, server = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS.get(page.scheme)
        own = (page.hostname, page.port or default) == (server.hostname, server.port or default)
    except ValueError:  # no port, or no address within brackets
        return False
    return default is not None and own and (not on_loopback or _is_local_name(page.hostname or ""))


def _is_local_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
