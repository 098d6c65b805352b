"""The pace of progress where no terminal shows a bar."""

import time

LINE_SECONDS = 10.0
"""Seconds between two lines."""


class LineClock:
    """Tells when the next line is due: ten seconds after the last one, or after the start."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether a line is due, and if so count from now on."""
        now = time.monotonic()
        if now - self.last < LINE_SECONDS:
            return False
        self.last = now
        return True
