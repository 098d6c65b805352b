"""What tests of benchmarks share: a tiny bank of writers as the engine's side, and peers that need not be installed."""

import pytest

from benchmarks.peers import Peer
from benchmarks.support.generation_sides import Ours
from serve.bundle.reader import open_bundle
from serve.limits import GenerationLimits
from tests.adamix_train.conftest import writing_data
from tests.fixtures.generation_banks import bank_of_writers

__all__ = ["writing_data"]


@pytest.fixture
def peer_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every peer one version: none has to be there to conclude from its times."""
    monkeypatch.setattr(Peer, "versions", lambda self: {f"{self.name}/package": "1.0"})


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    bank = bank_of_writers("llama", tmp_path_factory) / "bank"
    return Ours(open_bundle(bank), GenerationLimits(max_batch_requests=3, prefix_tokens=0))
