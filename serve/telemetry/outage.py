"""An outage of a collector, which the log tells of once at its beginning and once at its end."""

import threading


class Outage:
    """State of a collector, for all threads of a process."""

    def __init__(self) -> None:
        self.turn, self.is_on = threading.Lock(), False

    def begin(self) -> bool:
        """Note that there is one; return True if there was none before."""
        return self._set(True)

    def end(self) -> bool:
        """Note that there is none; return True if there was one."""
        return self._set(False)

    def _set(self, is_on: bool) -> bool:
        with self.turn:
            changed, self.is_on = self.is_on != is_on, is_on
            return changed
