"""An outage of a collector as all workers of a server know it: the log tells of it once, whichever finds out first."""

from pathlib import Path

from serve.telemetry.outage import Outage


class SharedOutage(Outage):
    """An outage that is a file of the private folder, while there is one."""

    def __init__(self, file: Path) -> None:
        """Use a file, which need not be there."""
        super().__init__()
        self.file = file

    def begin(self) -> bool:
        """Note that there is one; return True for the first worker that does."""
        try:
            self.file.touch(exist_ok=False)
        except OSError:  # it is there, or the folder is not any more
            return False
        return True

    def end(self) -> bool:
        """Note that there is none; return True for the first worker that does."""
        try:
            self.file.unlink()
        except OSError:
            return False
        return True
