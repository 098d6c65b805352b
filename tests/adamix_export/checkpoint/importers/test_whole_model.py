"""A folder that transformers saved, whose weights were all trained, becomes a merged bundle."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import ExportError
from adamix_train.errors import BaseError, CheckpointError
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from tests.adamix_train.conftest import make_writer
from tests.fixtures.peft_checkpoints import LABELS, make_classifier
from tests.fixtures.random_checkpoints import make_decoder

Command = Callable[..., None]
TEXTS = ["the parcel was good", "my shop is broken"]


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("model") / "tone", tiny_base)


@pytest.mark.slow
def test_a_classifier_predicts_as_in_pytorch(command: Command, model: Path, tmp_path: Path) -> None:
    command(model, tmp_path / "out")
    found = Classifier(tmp_path / "out")(TEXTS)
    inputs = AutoTokenizer.from_pretrained(model)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModelForSequenceClassification.from_pretrained(model).eval()(**inputs).logits.numpy()
    np.testing.assert_allclose(np.stack([one.logits for one in found]), expected, rtol=0, atol=1e-5)
    assert [one.label for one in found] == [LABELS[index] for index in expected.argmax(-1)]
    command("verify", tmp_path / "out", "--against", model)
    with pytest.raises(SystemExit, match="tone is a full adapter, which PEFT does not have"):
        command("convert", tmp_path / "out", tmp_path / "peft", "--to", "peft")


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "shard"), [(torch.bfloat16, "20KB"), (torch.float16, "1GB")])
def test_a_model_of_half_precision_predicts_as_in_fp32(
    dtype: torch.dtype, shard: str, command: Command, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "half"
    half = AutoModelForSequenceClassification.from_pretrained(model).to(dtype)
    half.save_pretrained(folder, max_shard_size=shard)
    assert (len(list(folder.glob("*.safetensors"))) > 1) is (shard == "20KB")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    command(folder, tmp_path / "out")
    inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = half.float().eval()(**inputs).logits.numpy()
    found = np.stack([one.logits for one in Classifier(tmp_path / "out")(TEXTS)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "padding"), [("gpt2", None), ("llama", 0), ("llama", None), ("t5", 0)])
def test_a_decoder_classifies_as_in_pytorch_alone(
    family: str, padding: int | None, command: Command, tmp_path: Path
) -> None:
    """Without a configured padding token transformers takes one text at a time; with one, a text may end in it."""
    folder = make_classifier(tmp_path / "tone", make_decoder(tmp_path / "base", family), pad_token_id=padding)
    command(folder, tmp_path / "out")
    texts = [*TEXTS, "it", "my parcel <pad>" if padding == 0 else "my parcel is fine"]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        expected = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    found = [one.logits for one in Classifier(tmp_path / "out")(texts)]
    np.testing.assert_allclose(np.stack(found), np.stack(expected), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_generator_writes_as_in_pytorch(command: Command, tmp_path: Path) -> None:
    folder = make_writer(tmp_path / "tone", "llama", initializer_range=0.2)
    command(folder, tmp_path / "out")
    found = Generator(tmp_path / "out")(["good parcel"], max_new_tokens=6)[0].text
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("good parcel", return_tensors="pt")["input_ids"]
    written = AutoModelForCausalLM.from_pretrained(folder).generate(
        input_ids=ids, max_new_tokens=6, do_sample=False, pad_token_id=0
    )
    assert found.strip() == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("shape", ["bank", "adapter"])
def test_a_whole_model_is_no_adapter(shape: str, command: Command, model: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is a whole model, without an adapter: export it with --shape merged"):
        command(model, tmp_path / "out", "--shape", shape)
    assert list(tmp_path.iterdir()) == []


def test_a_base_is_no_model_of_a_task(tiny_base: Path) -> None:
    with pytest.raises(ExportError, match="says what it is for: say it with --task"):
        open_checkpoint(str(tiny_base))
    checkpoint = open_checkpoint(f"tone={tiny_base}", facts=Facts(task="classification", labels=LABELS))
    with pytest.raises(CheckpointError, match="has no weights of classifier: it is a base"):
        checkpoint.merged()


def test_a_whole_model_has_no_base(model: Path, tiny_base: Path) -> None:
    with pytest.raises(BaseError, match="is a whole model, which has no base: leave out --base"):
        open_checkpoint(str(model), base=str(tiny_base))


def test_any_number_of_labels_at_once_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "tags", tiny_base, problem_type="multi_label_classification")
    with pytest.raises(ExportError, match=r"gives a text any number of labels .*--task classification"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), facts=Facts(task="classification")).labels == list(LABELS)
