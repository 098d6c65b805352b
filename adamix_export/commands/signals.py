"""The wish to stop, by Ctrl-C or SIGTERM."""

import signal
import sys

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "told to stop"}


class Stopping:
    """Ends the process by an exception, so that what is half written is removed.

    Tracing runs code that swallows even this exception: `check`, called between stages, raises it again.
    """

    def __init__(self) -> None:
        self.reason = ""
        for number in REASONS:
            signal.signal(number, lambda number, _: self._stop(REASONS[signal.Signals(number)]))

    def check(self) -> None:
        """End the process if it was to stop."""
        if self.reason:
            sys.exit(f"adamix-export: {self.reason}; nothing was written")

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.check()
