import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
)

from adamix_train.base_model.load import load_base, load_classifier, load_config, load_tokenizer
from adamix_train.errors import BaseError
from adamix_train.recipe.recipe import Recipe
from adamix_train.run.train import train
from adamix_train.training.objectives import OBJECTIVES
from tests.adamix_train.conftest import WORDS
from tests.fixtures.tiny_models import DECODERS, ENCODERS, tiny_model
from tests.fixtures.training import weights


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


def base_of(tiny_base: Path, folder: Path, model_class: Any, **settings: Any) -> Path:
    """Save the tiny base as another class of model saves it."""
    shutil.copytree(tiny_base, folder)
    model_class.from_pretrained(tiny_base, **settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", [1, 3])
def test_the_head_of_a_classifier_for_other_labels_is_made_anew(
    tiny_base: Path, tmp_path: Path, labels: int, caplog: pytest.LogCaptureFixture
) -> None:
    base = base_of(tiny_base, tmp_path / "base", AutoModelForSequenceClassification, num_labels=labels)
    with caplog.at_level("INFO"):
        loaded = load_base(
            base, AutoModelForSequenceClassification, **OBJECTIVES["classification"].settings(["a", "b"])
        )
    assert loaded.new_modules == ["classifier"]
    assert loaded.model.classifier.weight.shape == (2, 32)
    assert loaded.model.classifier.weight.std() > 0
    assert caplog.messages[-1] == f"the head of {base} is for other labels; a new one is trained instead"
    body = {name for name in loaded.model.state_dict() if name.startswith("bert.")}
    stored = load_file(base / "model.safetensors")
    assert all(torch.equal(loaded.model.state_dict()[name], stored[name]) for name in body & stored.keys())


def test_a_body_of_another_size_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file(tensors | {name: tensors[name][:-1].clone()}, tmp_path / "base" / "model.safetensors")
    with pytest.raises(BaseError, match=r"another size than its config\.json says, such as bert\.encoder\.layer\.0"):
        load_classifier(tmp_path / "base", ["a", "b"])


def test_a_masked_language_model_gets_a_pooler_that_is_trained_and_saved(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    base = base_of(tiny_base, tmp_path / "base", AutoModelForMaskedLM)
    assert "bert.pooler.dense.weight" not in load_file(base / "model.safetensors")
    out = tmp_path / "run"
    train(Recipe(base=str(base), train_file=str(tiny_data), out=str(out), max_length=16, epochs=1, report_to="none"))
    saved = weights(out)
    assert {name.rpartition("pooler.")[2] for name in saved if "pooler" in name} == {"dense.weight", "dense.bias"}


def test_a_vocabulary_alone_is_converted_as_transformers_converts_it(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    shutil.copy(tiny_base / "config.json", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    texts = ["the PARCEL was good", "unknown [SEP] shop", ""]
    assert tokenizer(texts)["input_ids"] == BertTokenizerFast.from_pretrained(tmp_path)(texts)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokenizer(texts[0])["input_ids"]) == [
        "[CLS]",
        "the",
        "parcel",
        "was",
        "good",
        "[SEP]",
    ]


def test_what_cannot_be_converted_says_how_to(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"no SentencePiece model")
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    with pytest.raises(BaseError, match=r"it has no tokenizer\.json: pip install sentencepiece .*save_pretrained"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_do_not_depend_on_the_batch_whatever_the_tokenizers_side(
    family: str, side: str, tiny_base: Path, tmp_path: Path
) -> None:
    """One row a batch, and all rows in one, through the collator that training and evaluation pad with."""
    AutoTokenizer.from_pretrained(tiny_base, padding_side=side).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    model = tiny_model(family, **({"num_labels": 3} if family in DECODERS else {}))
    if family in DECODERS:
        model = AutoModelForSequenceClassification.from_config(model.config).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    collate = OBJECTIVES["classification"].collate(tokenizer, model)
    rows = [
        {name: values for name, values in tokenizer(text).items() if name != "token_type_ids"}
        for text in ("good", "the parcel was good", "it is my shop and it was great the parcel is fine")
    ]
    with torch.inference_mode():
        together = model(**collate([dict(row) for row in rows])).logits
        alone = torch.cat([model(**collate([dict(row)])).logits for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_base_that_pads_on_the_left_is_padded_on_the_right(tiny_base: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_base, padding_side="left").save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad({"input_ids": [[4], [5, 6]]})["input_ids"] == [[4, 0], [5, 6]]


def test_a_configuration_that_names_other_weights_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_base / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": "other.bin"}))
    with pytest.raises(BaseError, match=r"names other\.bin as its weights \(transformers_weights\)"):
        load_config(tmp_path)
