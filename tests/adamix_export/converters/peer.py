"""Run another tool in an environment of its own, or skip aloud."""

import pytest

from benchmarks.peers import PEERS, Peer
from benchmarks.support.errors import PeerError


def peer(name: str) -> Peer:
    """The peer, whose environment `make peers` installs."""
    try:
        PEERS[name].require()
    except PeerError as error:
        pytest.skip(f"{name} was not run: {error}")
    return PEERS[name]
