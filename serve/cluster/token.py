"""The token that Ray's clusters ask for."""

import os
from collections.abc import MutableMapping
from pathlib import Path

LOCAL = "local"
"""Address of a cluster of this machine that ends with the process."""
MODE = "RAY_AUTH_MODE"
FILE = ".ray/auth_token"
"""Where `ray start` writes the token that it makes, below the home directory."""
PLACES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def use_token(address: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Have Ray send a cluster the token that is there, unless the environment says what it should do.

    Ray reads the environment when it is imported: call it before.
    """
    if address == LOCAL or MODE in environment:
        return
    if any(map(environment.get, PLACES)) or Path.home().joinpath(FILE).is_file():
        environment[MODE] = "token"
