"""The state of a server as the health checks of every protocol report it.

A server is live unless its device is lost, takes requests until it begins to stop, and is ready while it takes requests
once it has warmed up.
"""

from serve.engine import Engine
from serve.errors import DeviceLost, NotReady, ServeError, ShuttingDown


class Readiness:
    """The state of a server: warming up, ready, stopping."""

    def __init__(self, engine: Engine, *, is_warm: bool = True) -> None:
        self.engine, self.is_warm = engine, is_warm
        self.is_stopping = False
        """The server has been told to stop; it takes requests for a while, and should be sent none."""
        self.is_closed = False
        """The server takes no requests any more, and completes those that it has."""
        self.is_retiring = False
        """Another process takes this one's place: the server as a whole stays ready."""

    @property
    def closes_connections(self) -> bool:
        """True once each connection ends with its next response."""
        return self.is_stopping or self.is_retiring

    def check_live(self) -> None:
        """Raise DeviceLost if the process can answer nothing any more."""
        if (failure := self.engine.stats().failure) is not None:
            raise DeviceLost(failure)

    def check_open(self) -> None:
        """Raise a ServeError if the server has begun to stop, or its device is lost."""
        if self.is_stopping or self.engine.stats().draining:
            raise ShuttingDown("the server is stopping")
        self.check_live()

    def check_ready(self) -> None:
        """Raise a ServeError if the server should be sent no requests."""
        self.check_open()
        if not self.is_warm:
            raise NotReady("the server is warming up: try again later")

    @property
    def is_ready(self) -> bool:
        """False if the server should be sent no requests.

        Raises:
            DeviceLost: It can answer nothing any more.
        """
        self.check_live()
        return not self.obstacle

    @property
    def obstacle(self) -> str:
        """Reason why the server should be sent no requests; empty if there is none."""
        try:
            self.check_ready()
        except ServeError as error:
            return str(error)
        return ""
