import random
from pathlib import Path

import numpy as np
import pytest
import torch

from adamix_train.artifacts.training_state import load_random_state, load_state, save_random_state, save_state
from adamix_train.errors import CheckpointError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    save_random_state(tmp_path / "state")
    expected = [random.random(), np.random.random(), torch.rand(()).item()]
    load_random_state(tmp_path / "state")
    assert [random.random(), np.random.random(), torch.rand(()).item()] == expected


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {0: {"a": (1, 2.5, None, True)}, "b": [torch.arange(3), "text", ()]}
    save_state(tree, tmp_path / "state")
    found = load_state(tmp_path / "state")
    assert found[0] == tree[0]
    assert torch.equal(found["b"][0], torch.arange(3))
    assert found["b"][1:] == ["text", ()]


def test_a_value_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be saved without pickling"):
        save_state({"f": print}, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="does not hold a training state"):
        load_state(tmp_path / "state")


def test_a_run_with_a_damaged_state_is_not_resumed(finished_run: Recipe) -> None:
    (step,) = Path(finished_run.out).glob("checkpoint-*")
    file = step / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors does not hold a training state"):
        train(finished_run, resume=True)
