from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoModel

from adamix_train.base_model.fingerprint import base_sha256


def test_the_hash_does_not_depend_on_how_weights_are_split(tiny_base: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(tiny_base).save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert base_sha256(tmp_path) == base_sha256(tiny_base)


def test_the_hash_sees_one_changed_weight_and_one_renamed_tensor(tiny_base: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_base / "model.safetensors")
    name = sorted(tensors)[3]
    changed = tensors[name].clone()
    changed.view(-1)[0] += 1e-3
    save_file({**tensors, name: changed}, tmp_path / "model.safetensors")
    assert base_sha256(tmp_path) != base_sha256(tiny_base)
    tensors["renamed"] = tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    assert base_sha256(tmp_path) != base_sha256(tiny_base)
