"""Data-parallel processes, started by torchrun or accelerate launch."""

import os


def is_first_process() -> bool:
    """Return true in the one process that writes files and prints; it reads the environment, not torch."""
    return os.environ.get("RANK", "0") == "0"
