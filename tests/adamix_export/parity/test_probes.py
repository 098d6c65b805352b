"""A bundle tokenizes as the run did, whatever its base's tokenizer does to a text."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.errors import ParityError
from adamix_export.parity.probes import SENTENCES, probe_texts
from adamix_export.parity.verification import verify
from adamix_train.artifacts import checkpoint
from adamix_train.base_model.load import load_classifier, load_tokenizer
from adamix_train.errors import BaseError
from serve.bundle.adapter import read_adapter, write_card
from serve.bundle.checked_json import file_sha256, read_checked_json, write_checked_json
from serve.bundle.manifest import MANIFEST, TOKENIZER
from serve.classification.classifier import Classifier
from serve.errors import BundleError
from tests.adamix_export.conftest import Export
from tests.adamix_train.conftest import make_writer
from tests.fixtures.random_checkpoints import OPPOSITES, make_encoder, make_tokenizer, mixture

pytestmark = pytest.mark.slow

LENGTH = 12
SHORT, LONG = "good", "the parcel was lovely and my shop is bad " * 2 + "awful poor"
TEXTS = [SHORT, LONG, "it is a great, fine shop", f"{LONG} {LONG}"]


def make_base(folder: Path, **settings: Any) -> Path:
    """Make a base of one layer whose tokenizer_config.json says something more."""
    make_encoder(folder, "bert", num_hidden_layers=1)
    configure_tokenizer(folder, **settings)
    return folder


def configure_tokenizer(base: Path, **settings: Any) -> None:
    file = base / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def seal_run(run: Path) -> None:
    """Make a checkpoint whole again after a change of its tokenizer."""
    content = json.loads((run / checkpoint.CARD).read_text())
    content.pop("seal")
    checkpoint.write_card(run, checkpoint.Card(**content))


def pytorch(run: Path, base: Path, rows: list[tuple[str, ...]]) -> np.ndarray:
    """Logits of each row by itself, tokenized by transformers."""
    model = peft.PeftModel.from_pretrained(load_classifier(base, list(OPPOSITES)), run).eval()
    tokenizer = AutoTokenizer.from_pretrained(run)
    with torch.inference_mode():
        inputs = [tokenizer(*row, truncation=True, max_length=LENGTH, return_tensors="pt") for row in rows]
        return np.concatenate([model(**one).logits.numpy() for one in inputs])


@pytest.mark.parametrize("settings", [{"truncation_side": "left"}, {"padding_side": "left"}, {"do_lower_case": False}])
def test_a_bundle_answers_as_the_run_whatever_the_tokenizer_does(
    settings: dict[str, Any], export: Export, tmp_path: Path
) -> None:
    """Texts and pairs of texts, each kind through an adapter of its own."""
    base = make_base(tmp_path / "base", **settings)
    text = mixture(tmp_path / "text", base, max_length=LENGTH)
    pair = mixture(tmp_path / "pair", base, task="pair-classification", max_length=LENGTH, seed=1)
    reports = export("bank", text, pair)
    assert reports["text"].passed and reports["pair"].passed
    classifier = Classifier(tmp_path / "out", provider="cpu")
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    found = np.stack([one.logits for one in classifier(TEXTS, adapter="text")])
    np.testing.assert_allclose(found, pytorch(text, base, [(one,) for one in TEXTS]), atol=1e-4)
    found = np.stack([one.logits for one in classifier(pairs, adapter="pair")])
    np.testing.assert_allclose(found, pytorch(pair, base, pairs), atol=1e-4)


def test_the_direction_is_in_the_tokenizer_file_and_an_adapter_of_another_is_refused(
    export: Export, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base")
    for side in ("left", "right"):
        run = mixture(tmp_path / side, base, max_length=LENGTH)
        tokenizer = AutoTokenizer.from_pretrained(base, truncation_side=side)
        tokenizer.save_pretrained(run)
        seal_run(run)
        export("bank", run, out=f"{side}-bank")
    export("adapter", tmp_path / "left", out="left-adapter")
    files = [Tokenizer.from_file(str(tmp_path / f"{side}-bank" / TOKENIZER)).truncation for side in ("left", "right")]
    assert files[0]["direction"] == "left"
    assert files[1] is None, "as bundles were before"
    classifier = Classifier(tmp_path / "right-bank", provider="cpu", slots=2)
    with pytest.raises(BundleError, match="tokenizer"):
        classifier.load(tmp_path / "left-adapter")


def lose_the_direction(bundle: Path) -> None:
    """Make a bundle of one adapter truncate at the end, so that every hash holds."""
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.save(str(bundle / TOKENIZER))
    (folder,) = (bundle / "adapters").iterdir()
    write_card(folder, replace(read_adapter(folder).card, tokenizer_sha256=file_sha256(bundle / TOKENIZER)))
    content = read_checked_json(bundle / MANIFEST)
    for file in (bundle / TOKENIZER, folder / "adapter.json"):
        content["files"][str(file.relative_to(bundle))] = file_sha256(file)
    write_checked_json(bundle / MANIFEST, content)


def test_the_comparison_sees_a_text_that_is_truncated_at_the_other_end(export: Export, tmp_path: Path) -> None:
    run = mixture(tmp_path / "run", make_base(tmp_path / "base", truncation_side="left"), max_length=LENGTH)
    export("merged", run)
    lose_the_direction(tmp_path / "out")
    with pytest.raises(ParityError, match=r"run: the bundle tokenizes 'Every.*' differently from training: 12 tok"):
        verify(tmp_path / "out", [str(run)])


def test_the_probes_are_longer_than_what_is_read_and_hold_every_special_token(tmp_path: Path) -> None:
    source = open_checkpoint(str(mixture(tmp_path / "run", make_base(tmp_path / "base"), max_length=60)))
    long, *others, special = probe_texts(source)
    assert len(source.tokenizer(long)["input_ids"]) > 60
    assert all(sentence in long for sentence in SENTENCES)
    assert all(text.strip() for text in others)
    assert set(source.tokenizer.all_special_ids) <= set(source.tokenizer(special)["input_ids"])


def test_a_tokenizer_that_splits_special_tokens_is_refused(export: Export, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", split_special_tokens=True)
    assert make_tokenizer(typed=True)("[SEP]")["input_ids"] != AutoTokenizer.from_pretrained(base)("[SEP]")["input_ids"]
    with pytest.raises(BaseError, match="splits special tokens that are in a text"):
        load_tokenizer(base)
    with pytest.raises(BaseError, match="set split_special_tokens to false"):
        export("merged", mixture(tmp_path / "run", base))


ONE_LAYER = {"gpt2": {"n_layer": 1}, "t5": {"num_layers": 1}}


@pytest.mark.parametrize("family", ONE_LAYER)
def test_prompts_are_made_as_in_training_whatever_the_tokenizer_truncates(
    family: str, export: Export, tmp_path: Path
) -> None:
    """A prompt loses its beginning, or before an encoder the end of its text: the tokenizer does not decide it."""
    base = make_writer(tmp_path / "base", family, **ONE_LAYER[family])
    configure_tokenizer(base, truncation_side="left")
    run = mixture(tmp_path / "run", base, task="generation", max_length=LENGTH, max_new_tokens=8)
    assert export("merged", run)["run"].passed
    assert Tokenizer.from_file(str(tmp_path / "out" / TOKENIZER)).truncation is None
