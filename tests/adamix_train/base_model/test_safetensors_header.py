import shutil
from pathlib import Path

import pytest

from adamix_train.base_model.fingerprint import base_sha256
from adamix_train.base_model.load import load_classifier
from adamix_train.errors import BaseError


def test_weights_that_are_cut_short_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BaseError, match=r"cut short|not a whole safetensors file"):
            base_sha256(folder)


def test_a_pickle_is_not_read(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_base / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BaseError, match="other weight formats are pickles"):
        base_sha256(tmp_path)
    with pytest.raises(BaseError, match="does not load with AutoModelForSequenceClassification"):
        load_classifier(tmp_path, ["a", "b"])
