"""The event loop of a server."""

import asyncio
from typing import Any, cast

import uvloop

from serve.tls import HANDSHAKE_SECONDS


class ServerLoop(uvloop.Loop):
    """An event loop whose TLS connections have little time to begin; its own is a minute."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_SECONDS)
        server: Any = await super().create_server(*arguments, **options)
        return cast(asyncio.Server, server)
