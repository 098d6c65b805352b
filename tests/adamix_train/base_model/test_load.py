import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from adamix_train.base_model.fingerprint import base_sha256
from adamix_train.base_model.load import load_classifier, load_tokenizer
from adamix_train.base_model.locate import base_folder
from adamix_train.errors import BaseError


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


def test_weights_that_are_cut_short_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BaseError, match=r"cut short|not a whole safetensors file"):
            base_sha256(folder)


def test_a_base_that_lacks_weights_or_a_tokenizer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: weight for name, weight in tensors.items() if "layer.1." not in name}, folder / "model.safetensors"
    )
    with pytest.raises(BaseError, match=r"lacks 16 weights of a BertForSequenceClassification, such as bert\.encoder"):
        load_classifier(folder, ["a", "b"])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BaseError, match=r"has no tokenizer\.json"):
        load_tokenizer(folder)


def test_a_pickle_is_not_read(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_base / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BaseError, match="other weight formats are pickles"):
        base_sha256(tmp_path)
    with pytest.raises(BaseError, match="does not load with AutoModelForSequenceClassification"):
        load_classifier(tmp_path, ["a", "b"])


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_up_on_a_hub(name: str) -> None:
    with pytest.raises(BaseError, match="there is no base model folder"):
        base_folder(name)


def test_a_hub_id_without_a_hub_is_one_clear_error() -> None:
    with pytest.raises(BaseError, match="neither a folder nor available from the Hub"):
        base_folder("no-such-org/no-such-model")


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"has no config\.json"):
        base_folder(str(tmp_path))


def test_a_base_that_pads_on_the_left_is_padded_on_the_right(tiny_base: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_base, padding_side="left").save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad({"input_ids": [[4], [5, 6]]})["input_ids"] == [[4, 0], [5, 6]]
