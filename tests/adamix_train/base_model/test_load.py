import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adamix_train.base_model.load import load_classifier, load_tokenizer
from adamix_train.errors import BaseError


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


def test_a_base_that_pads_on_the_left_is_padded_on_the_right(tiny_base: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_base, padding_side="left").save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad({"input_ids": [[4], [5, 6]]})["input_ids"] == [[4, 0], [5, 6]]
