"""HTTP/1.1 for clients that send requests before earlier ones are answered, and leave or break off meanwhile."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.http.middleware import CONNECTION_STATUS


class PipelinedProtocol(HttpToolsProtocol):
    """The protocol of uvicorn, in which also a request with others behind it learns that its client has left."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.running: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the one that came last, which may wait behind it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, which then sends nothing more."""
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP; a request whose body they are has been answered with that."""
        self.note_bad_body()
        super().send_400_response(msg)

    def note_bad_body(self) -> None:
        """Count the request whose body is arriving, if any, as 400: the connection ends because of its bytes."""
        if self.cycle is not None and self.cycle.more_body:
            self.cycle.scope[CONNECTION_STATUS] = 400  # type: ignore[literal-required]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer a request."""
        self.running = cycle
        super()._start_asgi_task(cycle, app)
