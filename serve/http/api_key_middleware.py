"""ASGI middleware: every request but those of health checks, and perhaps of metrics, needs an API key."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api_keys import ApiKeys, client_key, presented_key
from serve.errors import NotAuthenticated, ServeError
from serve.http.error_responses import ErrorResponder

OPEN = frozenset({"/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"})
"""Paths of health checks, which need no key."""


class ApiKeyMiddleware:
    """Return 401 for a request without a known key, and 429 for one whose key has used up its requests."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, errors: ErrorResponder, open_paths: frozenset[str] = frozenset()
    ) -> None:
        """Wrap an application; `open_paths` need no key either."""
        self.app, self.keys, self.errors, self.open_paths = app, keys, errors, OPEN | open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its key for all that handles it."""
        if scope["type"] == "http" and scope["path"] not in self.open_paths:
            try:
                client_key.set(self.keys.authenticate(presented_key(dict(scope["headers"]))))
            except ServeError as error:
                response = self.errors.error_response(scope["path"], error)
                if isinstance(error, NotAuthenticated):
                    response.headers["WWW-Authenticate"] = "Bearer"
                response.headers["Connection"] = "close"  # the body is not read
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)
