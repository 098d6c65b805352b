"""A folder that PEFT saved becomes a bundle, or one line that says what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import BankError, ExportError
from adamix_export.pipeline.export import EXPORTS
from adamix_export.pipeline.options import Options
from adamix_train.errors import BaseError, CheckpointError
from serve.classification.classifier import Classifier
from serve.generation.generator import Generator
from tests.adamix_train.conftest import make_base, make_writer
from tests.fixtures.peft_checkpoints import LABELS, make_classifier, peft_classifier, peft_generator
from tests.fixtures.random_checkpoints import make_decoder

Command = Callable[..., None]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FACTS = Facts(labels=LABELS)
TEXTS = ["the parcel was good", "my shop is broken"]


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peft_classifier(tmp_path_factory.mktemp("peft") / "tone", tiny_base, r=4, lora_alpha=6)


@pytest.fixture
def copy(adapter: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(adapter, tmp_path / "in" / "tone"))


def change(folder: Path, **fields: object) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def first(tensors: dict[str, torch.Tensor]) -> str:
    return min(name for name in tensors if "lora_A" in name)


def pytorch(adapter: Path, base: Path) -> np.ndarray:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    inputs = AutoTokenizer.from_pretrained(base)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return peft.PeftModel.from_pretrained(model, adapter).eval()(**inputs).logits.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["merged", "bank"])
def test_a_classifier_predicts_as_in_peft(
    shape: str, command: Command, adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    command(adapter, tmp_path / "out", "--shape", shape, "--labels", ",".join(LABELS))
    predictions = Classifier(tmp_path / "out")(TEXTS)
    expected = pytorch(adapter, tiny_base)
    np.testing.assert_allclose(np.stack([one.logits for one in predictions]), expected, rtol=0, atol=1e-5)
    assert [one.label for one in predictions] == [LABELS[index] for index in expected.argmax(-1)]
    command("verify", tmp_path / "out", "--against", adapter)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "fields", "shape"),
    [
        ("llama", {"target_modules": "all-linear", "use_dora": True}, "bank"),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}, "merged"),
        ("gpt2", {"target_modules": ["c_attn", "lm_head"], "fan_in_fan_out": True}, "bank"),
        ("qwen3", {"target_modules": ["q_proj", "embed_tokens"], "use_rslora": True}, "merged"),
    ],
)
def test_a_generator_writes_as_in_peft(
    family: str, fields: dict[str, object], shape: str, command: Command, tmp_path: Path
) -> None:
    base = make_writer(tmp_path / "base", family, initializer_range=0.2)
    adapter = peft_generator(tmp_path / "tone", base, **fields)
    command(adapter, tmp_path / "out", "--shape", shape, "--prompt", "{input} =>")
    found = Generator(tmp_path / "out")(["good parcel"], max_new_tokens=6)[0].text
    tokenizer = AutoTokenizer.from_pretrained(base)
    inputs = tokenizer("good parcel =>", return_tensors="pt")
    written = open_checkpoint(str(adapter)).reference.generate(
        input_ids=inputs["input_ids"], max_new_tokens=6, do_sample=False, pad_token_id=0
    )
    expected = tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found.strip() == expected.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "fields", "shape"),
    [
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}, "bank"),
        ("llama", {"target_modules": "all-linear", "use_dora": True}, "bank"),
        ("qwen3", {"target_modules": ["q_proj", "v_proj"]}, "merged"),
        ("t5", {"target_modules": ["q", "v"], "modules_to_save": ["classification_head"]}, "bank"),
    ],
)
def test_a_decoder_classifies_as_in_peft(
    family: str, fields: dict[str, object], shape: str, command: Command, tmp_path: Path
) -> None:
    base = make_decoder(tmp_path / "base", family)
    adapter = peft_classifier(tmp_path / "tone", base, **fields)
    command(adapter, tmp_path / "out", "--shape", shape, "--labels", ",".join(LABELS))
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    model, tokenizer = peft.PeftModel.from_pretrained(model, adapter).eval(), AutoTokenizer.from_pretrained(base)
    texts = ["good", *TEXTS]
    with torch.inference_mode():
        expected = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    found = [one.logits for one in Classifier(tmp_path / "out")(texts)]
    np.testing.assert_allclose(np.stack(found), np.stack(expected), rtol=0, atol=1e-4)


def test_the_base_names_the_labels(tiny_base: Path, tmp_path: Path) -> None:
    base = make_classifier(tmp_path / "base", tiny_base)
    assert open_checkpoint(str(peft_classifier(tmp_path / "tone", base))).labels == list(LABELS)


def test_labels_that_nobody_names_are_asked_for(adapter: Path) -> None:
    with pytest.raises(ExportError, match=r"names its 3 labels: name them.*with --labels tone=FIRST,SECOND"):
        open_checkpoint(str(adapter))
    with pytest.raises(ExportError, match=r"has 3 outputs, and there are 2 labels \(yes, no\)"):
        open_checkpoint(str(adapter), facts=Facts(labels=("yes", "no")))
    with pytest.raises(ExportError, match=r"two labels of .* have the same name"):
        open_checkpoint(str(adapter), facts=Facts(labels=("yes", "no", "yes")))


def test_one_output_is_a_score(tiny_base: Path, tmp_path: Path) -> None:
    score = open_checkpoint(str(peft_classifier(tmp_path / "score", tiny_base, num_labels=1)))
    assert (score.regression, score.labels) == (True, ["score"])


def test_a_task_must_be_of_the_kind_that_the_checkpoint_names(adapter: Path) -> None:
    assert open_checkpoint(str(adapter), facts=Facts(labels=LABELS, task="pair-classification")).pairs
    with pytest.raises(ExportError, match="is for SEQ_CLS, and --task generation is not"):
        open_checkpoint(str(adapter), facts=Facts(task="generation"))
    with pytest.raises(ExportError, match="--task poetry is unknown; known are classification"):
        open_checkpoint(str(adapter), facts=Facts(task="poetry"))


def test_a_task_that_is_not_exported_is_named(copy: Path) -> None:
    change(copy, task_type="TOKEN_CLS")
    with pytest.raises(ExportError, match="is for TOKEN_CLS, which is not exported; known are SEQ_CLS"):
        open_checkpoint(str(copy), facts=FACTS)
    change(copy, task_type=None)
    with pytest.raises(ExportError, match="says what it is for: say it with --task"):
        open_checkpoint(str(copy), facts=FACTS)


def test_an_input_is_as_long_as_the_tokenizer_and_the_base_allow(adapter: Path, tiny_base: Path, copy: Path) -> None:
    assert open_checkpoint(str(adapter), facts=FACTS).card.max_length == 64
    assert open_checkpoint(str(adapter), facts=Facts(labels=LABELS, max_length=7)).card.max_length == 7
    with pytest.raises(ExportError, match="--max-length 65 is more than the 64 positions"):
        open_checkpoint(str(adapter), facts=Facts(labels=LABELS, max_length=65))
    assert open_checkpoint(str(adapter), facts=Facts(labels=LABELS, max_length=3)).card.max_length == 3
    with pytest.raises(ExportError, match=r"--max-length 2 leaves no room for a text: .* takes 3 tokens or more"):
        open_checkpoint(str(adapter), facts=Facts(labels=LABELS, max_length=2))


def test_a_fact_that_its_kind_of_task_does_not_have_is_refused(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is for classification, which has no --prompt: leave it out"):
        open_checkpoint(str(adapter), facts=Facts(labels=LABELS, prompt="{input}"))
    score = peft_classifier(tmp_path / "score", tiny_base, num_labels=1)
    with pytest.raises(ExportError, match="is for regression, which has no --labels"):
        open_checkpoint(str(score), facts=Facts(labels=("yes",)))


def test_a_regression_has_one_number(adapter: Path) -> None:
    with pytest.raises(ExportError, match="is a regression of 3 numbers; one of a single number is exported"):
        open_checkpoint(str(adapter), facts=Facts(task="regression"))


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter.pt"])
def test_a_pickle_is_refused_with_a_conversion_that_works(name: str, copy: Path) -> None:
    torch.save(load_file(copy / WEIGHTS), copy / name)
    before = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    with pytest.raises(
        CheckpointError, match=rf"{name} is a pickle, which is not read; .* convert it: python"
    ) as error:
        open_checkpoint(str(copy), facts=FACTS)
    code = str(error.value).partition('python -c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    after = load_file(copy / WEIGHTS)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=rf"has no {WEIGHTS}"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_file_that_is_cut_short_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        open_checkpoint(str(copy), facts=FACTS)


def test_values_that_are_not_finite_are_refused(copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors[first(tensors)].fill_(torch.nan))
    with pytest.raises(CheckpointError, match=r"lora_A\.weight in .* holds values that are not finite"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_configuration_that_lies_about_the_rank_is_refused(copy: Path) -> None:
    change(copy, r=3)
    with pytest.raises(CheckpointError, match=r"lora_A\.weight in .* is 4 × 32, and the model takes 3 × 32"):
        _ = open_checkpoint(str(copy), facts=FACTS).adapter


def test_a_configuration_with_more_targets_than_weights_is_refused(copy: Path) -> None:
    change(copy, target_modules=["query", "key", "value"])
    with pytest.raises(CheckpointError, match=r"lacks 4 tensors of which its configuration speaks, such as .*key"):
        _ = open_checkpoint(str(copy), facts=FACTS).adapter


def test_a_tensor_without_a_place_is_refused(copy: Path) -> None:
    change(copy, target_modules=["query"])
    with pytest.raises(CheckpointError, match=r"has 4 tensors that have no place in the model, such as .*value"):
        _ = open_checkpoint(str(copy), facts=FACTS).adapter


def test_a_setting_of_a_newer_peft_is_refused_rather_than_ignored(copy: Path) -> None:
    change(copy, use_magic=True)
    with pytest.raises(CheckpointError, match=r"has use_magic, which PEFT .* does not know: install the version"):
        open_checkpoint(str(copy), facts=FACTS)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("layer_replication", [[0, 2], [1, 2]], "repeats layers of its base"),
        ("alora_invocation_tokens", [5], "is an aLoRA"),
        ("megatron_config", {"a": 1}, "adapts Megatron's layers"),
    ],
)
def test_a_lora_that_is_no_change_of_weights_is_refused_in_every_shape(
    field: str, value: object, reason: str, copy: Path
) -> None:
    change(copy, **{field: value})
    with pytest.raises(ExportError, match=rf"{reason}.* \({field}\): it cannot be exported, neither merged nor in a"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_missing_tensor_of_a_head_is_named(copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.pop("base_model.model.classifier.bias"))
    with pytest.raises(CheckpointError, match=r"lacks base_model\.model\.classifier\.bias, .*modules_to_save") as error:
        _ = open_checkpoint(str(copy), facts=FACTS).reference
    assert "--base" not in str(error.value)


def test_a_module_to_save_that_is_not_stored_is_named(copy: Path) -> None:
    change(copy, modules_to_save=["classifier", "embeddings.LayerNorm"])
    with pytest.raises(CheckpointError, match=r"lacks .*bert\.embeddings\.LayerNorm\.weight, .*modules_to_save"):
        _ = open_checkpoint(str(copy), facts=FACTS).reference


def test_a_scale_that_is_no_number_is_refused(copy: Path) -> None:
    change(copy, lora_alpha=float("nan"))
    with pytest.raises(CheckpointError, match="has lora_alpha nan, which is no finite number"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_damaged_configuration_is_refused(copy: Path) -> None:
    (copy / CONFIG).write_text("{")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is damaged"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_base_without_the_targets_is_refused(copy: Path) -> None:
    change(copy, target_modules=["q_proj"])
    with pytest.raises(CheckpointError, match=r"does not fit .*q_proj.*name that with --base"):
        _ = open_checkpoint(str(copy), facts=FACTS).adapter


def test_a_base_of_another_size_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "base"
    make_base(other, seed=0)
    model = AutoModelForSequenceClassification.from_pretrained(other, num_hidden_layers=1)
    model.save_pretrained(other)
    with pytest.raises(CheckpointError, match=r"tensors that have no place in the model, such as .*layer\.1.*--base"):
        _ = open_checkpoint(str(adapter), base=str(other), facts=FACTS).adapter


def test_a_base_on_another_machine_is_named_with_base(copy: Path, tiny_base: Path) -> None:
    change(copy, base_model_name_or_path="/home/somebody/base")
    with pytest.raises(BaseError, match=r"no base model folder /home/somebody/base.*--base names another place"):
        open_checkpoint(str(copy), facts=FACTS)
    assert open_checkpoint(str(copy), base=str(tiny_base), facts=FACTS).base == tiny_base
    change(copy, base_model_name_or_path=None)
    with pytest.raises(BaseError, match="does not name its base: name it with --base"):
        open_checkpoint(str(copy), facts=FACTS)


def test_a_base_of_a_pickle_is_refused(copy: Path, tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(BaseError, match=r"no model\.safetensors; other weight formats are pickles"):
        open_checkpoint(str(copy), base=str(base), facts=FACTS)


def test_a_base_in_shards_is_read(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (base / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny_base).save_pretrained(base, max_shard_size="20KB")
    assert len(list(base.glob("model-*.safetensors"))) > 1
    whole, sharded = (open_checkpoint(str(adapter), base=str(one), facts=FACTS) for one in (tiny_base, base))
    assert whole.card.base_sha256 == sharded.card.base_sha256
    assert all(torch.equal(tensor, sharded.adapter[name]) for name, tensor in whole.adapter.items())


def test_a_base_of_another_revision_is_another_base(
    adapter: Path, copy: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter names the revision that it was trained on, and gets that one; a bank holds one revision."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    bases = {"a" * 40: tiny_base, "b" * 40: make_base(tmp_path / "other", seed=7)}
    snapshots = tmp_path / "cache" / "models--org--base" / "snapshots"
    opened = []
    for revision, base in bases.items():
        shutil.copytree(base, snapshots / revision)
        change(copy, base_model_name_or_path="org/base", revision=revision)
        opened.append(open_checkpoint(f"{revision[0]}={copy}", facts=FACTS))
        assert opened[-1].base.samefile(snapshots / revision)
    with pytest.raises(ExportError, match="b and a were trained on different bases: a bank has one base"):
        EXPORTS["bank"](opened, tmp_path / "out", Options(), lambda stage: None)


@pytest.mark.slow
def test_a_thousand_labels_are_predicted_as_in_peft(command: Command, tiny_base: Path, tmp_path: Path) -> None:
    labels = [f"intent {index}" for index in range(1000)]
    adapter = peft_classifier(tmp_path / "many", tiny_base, num_labels=len(labels), r=4)
    command(adapter, tmp_path / "out", "--shape", "bank", "--labels", ",".join(labels))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=len(labels))
    inputs = AutoTokenizer.from_pretrained(tiny_base)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = peft.PeftModel.from_pretrained(model, adapter).eval()(**inputs).logits.numpy()
    found = Classifier(tmp_path / "out")(TEXTS)
    np.testing.assert_allclose(np.stack([one.logits for one in found]), expected, rtol=0, atol=1e-5)
    assert [one.label for one in found] == [labels[index] for index in expected.argmax(-1)]


def test_a_head_that_is_nowhere_is_refused(copy: Path) -> None:
    """A random head in training that nobody saved: another one would be drawn at every start."""
    change(copy, task_type=None)
    change_weights(copy, lambda tensors: [tensors.pop(name) for name in list(tensors) if "classifier" in name])
    facts = Facts(labels=("yes", "no"), task="classification")
    with pytest.raises(CheckpointError, match="has the weights of classifier: they were random in training"):
        _ = open_checkpoint(str(copy), facts=facts).adapter


def test_a_head_of_which_only_a_part_was_saved_is_refused(copy: Path) -> None:
    """As with `bias="all"`, which saves the biases of a head that is random."""
    change(copy, task_type=None, modules_to_save=None)
    change_weights(copy, lambda tensors: [tensors.pop(name) for name in list(tensors) if "classifier.weight" in name])
    facts = Facts(labels=("yes", "no"), task="classification")
    with pytest.raises(CheckpointError, match="has the weights of classifier: they were random in training"):
        _ = open_checkpoint(str(copy), facts=facts).adapter


def test_added_tokens_are_named(copy: Path, command: Command, tmp_path: Path, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(copy)
    with pytest.raises(SystemExit, match=r"tokens without an embedding: '<new>' \(20\).*resize_token_embeddings"):
        command(copy, tmp_path / "out", "--labels", ",".join(LABELS))
    assert not (tmp_path / "out").exists()


def test_a_generator_that_trained_a_whole_module_is_refused_in_a_bank(tmp_path: Path) -> None:
    base = make_writer(tmp_path / "base", "llama")
    folder = peft_generator(tmp_path / "tone", base, target_modules=["q_proj"], modules_to_save=["lm_head"])
    checkpoint = open_checkpoint(str(folder))
    with pytest.raises(BankError, match=r"trained all of lm_head \(modules_to_save\).*export it with --shape merged"):
        _ = checkpoint.adapter
    ids = torch.tensor([[4, 5, 6]])
    with torch.inference_mode():
        difference = checkpoint.reference(input_ids=ids).logits - checkpoint.merged()(input_ids=ids).logits
    assert difference.abs().max() < 1e-5


@pytest.mark.slow
def test_an_adapter_alone_is_loaded_into_a_bank(command: Command, tiny_base: Path, tmp_path: Path) -> None:
    """A row of an open bank gives the logits of an adapter that was exported later, by itself."""
    names = ("first", "late")
    folders = [
        peft_classifier(tmp_path / name, tiny_base, r=rank, seed=rank) for name, rank in zip(names, (2, 5), strict=True)
    ]
    command(folders[0], tmp_path / "bank", "--shape", "bank", "--slots", "1", "--labels", ",".join(LABELS))
    command(folders[1], tmp_path / "loaded", "--shape", "adapter", "--labels", ",".join(LABELS))
    classifier = Classifier(tmp_path / "bank")
    classifier.load(tmp_path / "loaded")
    found = np.stack([one.logits for one in classifier(TEXTS, adapter="late")])
    np.testing.assert_allclose(found, pytorch(folders[1], tiny_base), rtol=0, atol=1e-5)


def test_an_error_leaves_nothing_behind(command: Command, copy: Path, tmp_path: Path) -> None:
    change(copy, r=5)
    with pytest.raises(SystemExit, match=r"adamix-export: .* declares the rank 5 "):
        command(copy, tmp_path / "out", "--labels", ",".join(LABELS))
    assert [file.name for file in tmp_path.iterdir()] == ["in"]
