import random
from pathlib import Path

import numpy as np
import pytest
import torch

from adamix_train.artifacts.training_state import load_state, save_state
from adamix_train.errors import CheckpointError


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    save_state({"python": random.getstate(), "numpy": np.random.get_state()}, tmp_path / "state")
    expected = [random.random(), np.random.random()]
    state = load_state(tmp_path / "state")
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    assert [random.random(), np.random.random()] == expected


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {0: {"a": (1, 2.5, None, True)}, "b": [torch.arange(3), "text", ()]}
    save_state(tree, tmp_path / "state")
    found = load_state(tmp_path / "state")
    assert found[0] == tree[0]
    assert torch.equal(found["b"][0], torch.arange(3))
    assert found["b"][1:] == ["text", ()]


def test_what_cannot_be_plain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be saved without pickling"):
        save_state({"f": print}, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="does not hold a training state"):
        load_state(tmp_path / "state")
