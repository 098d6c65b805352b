"""A checkpoint of every kind of model."""

from pathlib import Path

import pytest

from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import make_encoder, mixture


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of every kind of model, wide enough for its matrices to be worth a smaller precision."""
    wide = {"hidden_size": 64, "intermediate_size": 128}
    folder = tmp_path_factory.mktemp("runs")
    encoder = make_encoder(tmp_path_factory.mktemp("bert"), "bert", **wide, initializer_range=0.1)
    decoder = make_writer(tmp_path_factory.mktemp("llama"), "llama", **wide, vocab_size=96, initializer_range=0.1)
    both = make_writer(tmp_path_factory.mktemp("t5"), "t5", d_model=64, d_ff=128, d_kv=32, vocab_size=96)
    write = {"task": "generation", "max_length": 24, "max_new_tokens": 6}
    return {
        "classification": mixture(folder / "tone", encoder, kind="houlsby"),
        "regression": mixture(folder / "alike", encoder, task="stsb", kind="lora", seed=1),
        "generation": mixture(folder / "text", decoder, kind="lora", **write),
        "sequence-to-sequence": mixture(folder / "other", both, kind="houlsby", **write),
    }
