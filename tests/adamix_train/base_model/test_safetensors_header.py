import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModel

from adamix_train.base_model.fingerprint import base_sha256
from adamix_train.base_model.load import load_classifier
from adamix_train.base_model.safetensors_header import stored_tensors, weight_files
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
    with pytest.raises(BaseError, match="other weight formats are pickles"):
        load_classifier(tmp_path, ["a", "b"])


@pytest.fixture
def sharded(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the base in shards of 20 KB, in the folder `in`."""
    folder = tmp_path / "in"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny_base).save_pretrained(folder, max_shard_size="20KB")
    return folder


def change_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_hold_the_tensors_of_the_whole_file(sharded: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(sharded).save_pretrained(tmp_path / "whole")
    assert len(weight_files(sharded)) > 1
    assert base_sha256(sharded) == base_sha256(tmp_path / "whole")


@pytest.mark.parametrize("outside", ["../outside.safetensors", "sub/../../outside.safetensors", "{absolute}"])
def test_an_index_that_leads_out_of_its_folder_is_refused(outside: str, sharded: Path, tiny_base: Path) -> None:
    target = sharded.parent / "outside.safetensors"
    shutil.copy(tiny_base / "model.safetensors", target)
    shard = outside.format(absolute=target)
    change_index(sharded, dict.fromkeys(load_file(target), shard))
    for read in (weight_files, base_sha256, lambda folder: load_classifier(folder, ["no", "yes"])):
        with pytest.raises(BaseError, match=f"names {shard}: only safetensors files in its own folder"):
            read(sharded)


def test_a_shard_of_a_pickle_is_refused(sharded: Path) -> None:
    change_index(sharded, {"weight": "pytorch_model.bin"})
    with pytest.raises(BaseError, match=r"names pytorch_model\.bin: only safetensors files"):
        load_classifier(sharded, ["no", "yes"])


@pytest.mark.parametrize("weight_map", ["x", None, {}, [], {"weight": 1}, {"weight": ["a"]}])
def test_an_index_without_files_is_refused(weight_map: object, sharded: Path) -> None:
    change_index(sharded, weight_map)
    with pytest.raises(BaseError, match=r"index\.json is damaged, its weight_map does not give the file"):
        weight_files(sharded)


@pytest.mark.parametrize("content", ["[]", "{", '"x"', "\udcff"])
def test_an_index_that_is_no_object_is_refused(content: str, sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(content, "utf-8", "surrogateescape")
    with pytest.raises(BaseError, match=r"index\.json is damaged"):
        weight_files(sharded)


@pytest.mark.parametrize("header", [b"[1]", b"3"])
def test_a_header_that_is_no_object_is_refused(header: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BaseError, match="is not a whole safetensors file"):
        list(stored_tensors(file))
