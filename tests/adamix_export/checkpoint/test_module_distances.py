from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.members import with_members
from adamix_export.checkpoint.module_distances import module_distances
from tests.fixtures.random_checkpoints import make_encoder, mixture


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("base") / "bert", "bert")


def test_distances_are_those_of_the_stored_modules_from_their_mean(base: Path, tmp_path: Path) -> None:
    run = mixture(tmp_path / "tone", base, kind="houlsby")
    down = [tensor for name, tensor in load_file(run / "adapter_model.safetensors").items() if ".down." in name]
    flat = np.concatenate([tensor.reshape(3, -1) for tensor in down], axis=1).astype(np.float64)
    mean = flat.mean(0)
    expected = np.linalg.norm(flat - mean, axis=1) / np.linalg.norm(mean)
    assert module_distances(open_checkpoint(str(run))) == pytest.approx(expected.tolist(), rel=1e-5)


def test_what_is_no_mixture_has_none(base: Path, tmp_path: Path) -> None:
    assert module_distances(open_checkpoint(str(mixture(tmp_path / "plain", base, num_modules=1)))) == []
    _, member, *_ = with_members([open_checkpoint(str(mixture(tmp_path / "tone", base)))])
    assert module_distances(member) == []
