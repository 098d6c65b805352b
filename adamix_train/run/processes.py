"""Data-parallel processes, as accelerate launch and torchrun start them."""

import os


def is_first_process() -> bool:
    """Return whether this is the process that writes and speaks, before torch is loaded as well."""
    return os.environ.get("RANK", "0") == "0"
