import sys

import pytest

from benchmarks.peers import PEERS, Peer
from benchmarks.support.errors import PeerError


@pytest.fixture
def peer(tmp_path):
    return Peer(name="optimum", packages=(), environments=tmp_path)


def installed(peer, *, marker=None):
    peer.python.parent.mkdir(parents=True)
    peer.python.symlink_to(sys.executable)
    peer.marker.write_text(marker or peer.fingerprint)


def test_a_peer_that_is_not_there_says_how_to_get_it(peer):
    with pytest.raises(PeerError, match="not installed: make peers"):
        peer.require()


def test_a_peer_of_other_requirements_is_refused(peer):
    installed(peer, marker="old")
    with pytest.raises(PeerError, match="other requirements: make peers"):
        peer.require()


def test_a_script_that_fails_leaves_nothing_and_says_why(peer, tmp_path):
    installed(peer)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(PeerError, match=r"optimum_export\.py ended with 1: .*optimum"):
        peer.convert("optimum_export.py", model)
    assert not list((peer.folder / "converted").iterdir())


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_peer_is_pinned_exactly(peer):
    lines = [line for line in peer.requirements.read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert {line.partition("==")[0] for line in lines} >= set(peer.packages)
