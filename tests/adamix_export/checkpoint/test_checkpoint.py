import json
import shutil
from pathlib import Path

import pytest

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_train.errors import BaseError, CheckpointError
from serve.errors import BundleError
from tests.adamix_train.conftest import make_base


def test_another_base_is_refused_by_its_hash(houlsby: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "base", seed=1)
    with pytest.raises(BaseError, match=r"was trained on a base with sha256 .*: give the base it was trained on"):
        open_checkpoint(str(houlsby), base=str(other))


def test_equal_weights_under_another_configuration_are_refused(houlsby: Path, tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_attention_heads": 2}))
    with pytest.raises(BaseError, match=r"but another config\.json"):
        open_checkpoint(str(houlsby), base=str(tmp_path / "base"))


def test_a_checkpoint_with_another_tokenizer_is_refused(houlsby: Path, tmp_path: Path) -> None:
    shutil.copytree(houlsby, tmp_path / "run")
    file = tmp_path / "run" / "tokenizer.json"
    file.write_text(file.read_text().replace('"good"', '"dear"'))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is cut short or changed since training"):
        open_checkpoint(str(tmp_path / "run"))


def test_a_base_that_moved_is_named_with_base(houlsby: Path, tiny_base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(tiny_base, copy)
    assert open_checkpoint(str(houlsby), base=str(copy)).base == copy


def test_checkpoints_that_are_none_are_refused(houlsby: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint folder"):
        open_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"has no adamix\.json"):
        open_checkpoint(str(tmp_path))
    with pytest.raises(BundleError, match="is no name for an adapter"):
        open_checkpoint(f"no good name={houlsby}")
