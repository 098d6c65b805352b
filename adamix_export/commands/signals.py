"""Ctrl-C and SIGTERM while a command runs."""

import signal
import sys

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class StopSignals:
    """Signal handlers that end the process by an exception, so that partial output is removed.

    torch's tracing may swallow this exception; `check`, called between stages, raises it again.
    """

    def __init__(self) -> None:
        self.reason = ""
        for number in REASONS:
            signal.signal(number, lambda number, _: self._stop(REASONS[signal.Signals(number)]))

    def check(self) -> None:
        """End the process if a signal was received."""
        if self.reason:
            sys.exit(f"adamix-export: {self.reason}; nothing was written")

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.check()
