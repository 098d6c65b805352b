"""Each folder of the `adapters` library that cannot be exported gets one line that says why and what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from adamix_export.checkpoint.checkpoint import open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import ExportError
from adamix_train.errors import BaseError, CheckpointError
from tests.fixtures.adapterhub_folders import DORA, DOUBLE_SEQ_BN, HEAD, LABELS, LORA, SEQ_BN, write_folder
from tests.fixtures.random_checkpoints import make_encoder

WEIGHTS, CONFIG = "adapter.safetensors", "adapter_config.json"


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return write_folder(tmp_path / "in" / "tone", tiny_base, SEQ_BN)


def change(folder: Path, file: str = CONFIG, **fields: Any) -> None:
    """Replace fields of a configuration; those in `config` one by one."""
    content = json.loads((folder / file).read_text())
    content["config"].update(fields.pop("config", {}))
    (folder / file).write_text(json.dumps({**content, **fields}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], file: str = WEIGHTS) -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


@pytest.mark.parametrize(
    ("file", "pickle"), [(WEIGHTS, "pytorch_adapter.bin"), ("model_head.safetensors", "pytorch_model_head.bin")]
)
def test_a_pickle_is_refused_with_a_conversion_that_works(file: str, pickle: str, folder: Path) -> None:
    before = load_file(folder / file)
    shared = {**before, "again": next(iter(before.values()))}  # the library stores a layer norm under two names
    torch.save(shared, folder / pickle)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{pickle} is a pickle, which is not read; .* convert it: py") as error:
        open_checkpoint(str(folder))
    code = str(error.value).partition('python -c "')[2].rstrip('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    after = load_file(folder / file)
    assert all(torch.equal(tensor, after[name]) for name, tensor in shared.items())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"phm_layer": True, "phm_rank": 1}, "a compacter"),
        ({"inv_adapter": "nice"}, "an invertible adapter"),
        ({"use_gating": True}, "gated"),
        ({"architecture": "prefix_tuning"}, "prefix tuning"),
        ({"architecture": "prompt_tuning"}, "prompt tuning"),
        ({"architecture": "reft"}, "ReFT"),
        ({"architecture": "mtl_lora"}, "MTL-LoRA"),
        ({"architecture": "lora", "vera_d": 0.1}, "VeRA"),
        ({"architecture": "magic"}, "a method 'magic' of the adapters library"),
        ({"architecture": "union", "configs": [SEQ_BN, {"architecture": "prefix_tuning"}]}, "prefix tuning"),
    ],
)
def test_a_method_that_is_not_exported_is_named(config: dict[str, Any], reason: str, folder: Path) -> None:
    change(folder, config=config)
    with pytest.raises(ExportError, match=f"tone is {reason}"):
        open_checkpoint(str(folder))


def test_a_fusion_is_named(folder: Path) -> None:
    (folder / "adapter_fusion_config.json").write_text("{}")
    (folder / WEIGHTS).unlink()
    with pytest.raises(ExportError, match="holds an AdapterFusion, which mixes adapters by each input"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "fields",
    [
        {"original_ln_before": True, "residual_before_ln": "post_add"},
        {"original_ln_before": True, "residual_before_ln": False},
        {"original_ln_after": False},
    ],
)
def test_a_place_that_is_not_exported_is_named(fields: dict[str, Any], tiny_base: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_folder(tmp_path / "tone", tiny_base, {**DOUBLE_SEQ_BN, **fields})))
    names = ".*".join(f"{name}={value}" for name, value in fields.items())
    with pytest.raises(ExportError, match=f"is a bottleneck with .*{names}.* on a bert, which is not exported"):
        checkpoint.merged()


def test_a_field_that_is_not_known_is_refused(folder: Path) -> None:
    change(folder, config={"use_magic": False})
    open_checkpoint(str(folder))
    change(folder, config={"use_magic": True})
    with pytest.raises(CheckpointError, match="has use_magic, which this version does not know"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reduction_factor": 4}, r"adapter_up\.weight in .* is 32 × 4, and the model takes 32 × 8: its"),
        ({"mh_adapter": True}, r"lacks encoder\.layer\.0\.attention\.output\.adapters\.tone\.\S+, of which"),
        ({"leave_out": [1]}, r"has 4 tensors that have no place in the model, such as encoder\.layer\.1\.output"),
        ({"scaling": "channel"}, r"lacks encoder\.layer\.0\.output\.adapters\.tone\.scaling"),
    ],
)
def test_a_configuration_that_lies_about_its_weights_is_refused(
    fields: dict[str, Any], message: str, folder: Path
) -> None:
    change(folder, config=fields)
    checkpoint = open_checkpoint(str(folder))
    for read in (checkpoint.importer.adapter, checkpoint.importer.reference, checkpoint.importer.merged):
        with pytest.raises(CheckpointError, match=message + ".*--base"):
            read(checkpoint)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        (CONFIG, {"scaling": "magic"}, 'should be a number, "learned" or "channel"'),
        (CONFIG, {"scaling": float("nan")}, "should be a number"),
        (CONFIG, {"non_linearity": "magic"}, "should be an activation of transformers"),
        (CONFIG, {"reduction_factor": 0}, "should be a positive number"),
        (CONFIG, {"reduction_factor": {"0": "x"}}, "should be a positive number, or one for each layer"),
        (CONFIG, {"leave_out": 3}, "should be a list of numbers of layers"),
        (CONFIG, {"original_ln_before": "yes"}, "should be true or false"),
        ("head_config.json", {"layers": "two"}, "should be a positive integer"),
        ("head_config.json", {"activation_function": ["tanh"]}, "should be an activation"),
        ("head_config.json", {"label2id": {"a": 0, "b": 0, "c": 1}}, "should be the numbers of the logits by label"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_refused(
    file: str, fields: dict[str, Any], message: str, folder: Path
) -> None:
    change(folder, file, config=fields)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("configs", [None, 3, [], [3]])
def test_a_union_without_configurations_is_refused(configs: object, folder: Path) -> None:
    change(folder, config={"architecture": "union", "configs": configs})
    with pytest.raises(CheckpointError, match=r"a union without configurations|a method that is no object"):
        open_checkpoint(str(folder))


def test_a_reduction_without_a_default_is_refused(folder: Path) -> None:
    change(folder, config={"reduction_factor": {"0": 8}})
    with pytest.raises(CheckpointError, match="names no reduction_factor of layer 1"):
        _ = open_checkpoint(str(folder)).reference


def test_a_standalone_adapter_of_ours_is_not_taken_for_one_of_the_library(folder: Path) -> None:
    (folder / CONFIG).rename(folder / "adapter.json")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("file", [WEIGHTS, "model_head.safetensors"])
def test_values_that_are_not_finite_are_refused(file: str, folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors[min(tensors)].fill_(torch.nan), file)
    with pytest.raises(CheckpointError, match=rf"{file} holds values that are not finite"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": 3}'])
@pytest.mark.parametrize("file", [CONFIG, "head_config.json"])
def test_a_damaged_configuration_is_refused(file: str, content: str, folder: Path) -> None:
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=f"{file} is missing or damaged .*: save the adapter again with"):
        open_checkpoint(str(folder))


def test_a_base_of_another_family_or_size_is_refused(folder: Path, tiny_base: Path, tmp_path: Path) -> None:
    other = make_encoder(tmp_path / "roberta", "roberta")
    with pytest.raises(
        BaseError, match=r"was trained on a bert of width 32, and .* is a roberta of width 16: .*--base"
    ):
        open_checkpoint(str(folder), base=str(other))
    shallow = Path(shutil.copytree(tiny_base, tmp_path / "shallow"))
    AutoModel.from_config(AutoConfig.from_pretrained(tiny_base, num_hidden_layers=1)).save_pretrained(shallow)
    with pytest.raises(CheckpointError, match=r"no place in the model, such as encoder\.layer\.1.*--base"):
        _ = open_checkpoint(str(folder), base=str(shallow)).adapter


def test_a_family_that_is_not_known_is_named(folder: Path) -> None:
    change(folder, model_type="xmod")
    with pytest.raises(ExportError, match="adapts a xmod, whose layers are not known; known are bert, deberta-v2"):
        open_checkpoint(str(folder))


def test_a_base_that_is_not_named_is_asked_for(folder: Path, tiny_base: Path) -> None:
    change(folder, model_name="")
    with pytest.raises(BaseError, match="does not name its base: name it with --base"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), base=str(tiny_base)).base == tiny_base


@pytest.mark.parametrize("labels", [None, ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_labels_that_nobody_names_are_asked_for(labels: tuple[str, ...], tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, LORA, labels=labels)
    with pytest.raises(ExportError, match=r"names its 3 labels: name them.*--labels tone=FIRST,SECOND"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), facts=Facts(labels=LABELS)).labels == list(LABELS)
    with pytest.raises(ExportError, match="has 3 outputs, and there are 2 labels"):
        open_checkpoint(str(folder), facts=Facts(labels=LABELS[:2]))


def test_one_output_is_a_score(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, LORA, head={**HEAD, "num_labels": 1}, labels=None)
    assert open_checkpoint(str(folder)).regression


@pytest.mark.parametrize("kind", ["tagging", "question_answering", "masked_lm"])
def test_a_head_for_another_task_is_named(kind: str, folder: Path) -> None:
    change(folder, "head_config.json", config={"head_type": kind})
    with pytest.raises(ExportError, match=f"has a head for {kind}, which is not exported; known are classification"):
        open_checkpoint(str(folder))


def test_a_head_of_several_labels_a_text_is_taken_only_when_that_is_meant(folder: Path) -> None:
    change(folder, "head_config.json", config={"head_type": "multilabel_classification"})
    with pytest.raises(ExportError, match=r"gives a text any number of labels .*: say with --task classification"):
        open_checkpoint(str(folder))
    assert open_checkpoint(str(folder), facts=Facts(task="classification")).labels == list(LABELS)


def test_a_head_that_is_nowhere_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, LORA, head=None)
    checkpoint = open_checkpoint(str(folder), facts=Facts(labels=LABELS, task="classification"))
    with pytest.raises(CheckpointError, match="has the weights of classifier: save the adapter again with its head"):
        _ = checkpoint.adapter


def test_a_head_that_lies_about_its_weights_is_refused(folder: Path) -> None:
    change(folder, "head_config.json", config={"layers": 3})
    with pytest.raises(CheckpointError, match=r"heads\.tone\.4\.weight in .* is 3 × 32, and the model takes 32 × 32"):
        _ = open_checkpoint(str(folder)).reference


def test_names_and_activations_of_old_versions_are_translated(tiny_base: Path, tmp_path: Path) -> None:
    """The library's own table: `gelu` without a version is today's `gelu_new`, and modules had other names."""
    config = {**SEQ_BN, "non_linearity": "gelu_orig", "invertible_adapter": {"block_type": "nice"}}
    old = write_folder(tmp_path / "old", tiny_base, config, type="text_task", version="")
    change_weights(
        old,
        lambda tensors: tensors.update(
            {name.replace(".adapters.", ".layer_text_task_adapters."): tensors.pop(name) for name in list(tensors)}
        ),
    )
    new = write_folder(tmp_path / "new", tiny_base, {**SEQ_BN, "non_linearity": "gelu"})
    before, after = (open_checkpoint(str(folder)).adapter for folder in (old, new))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_lora_of_a_version_that_did_not_scale_is_read_unscaled(tiny_base: Path, tmp_path: Path) -> None:
    folders = [
        write_folder(tmp_path / version, tiny_base, LORA, version=version)
        for version in ("adapters.1.0.1", "adapters.1.1.0")
    ]
    old, new = (open_checkpoint(f"tone={folder}").adapter for folder in folders)
    up = next(name for name in old if name.endswith("lora.up.weight"))
    torch.testing.assert_close(old[up] * 12 / 4, new[up])


def test_a_place_that_two_methods_adapt_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    union = {"architecture": "union", "configs": [DOUBLE_SEQ_BN, {**LORA, "output_lora": True}]}
    checkpoint = open_checkpoint(str(write_folder(tmp_path / "tone", tiny_base, union)))
    with pytest.raises(ExportError, match=r"adapts bert\.encoder\.layer\.0\.output\.dense twice"):
        _ = checkpoint.reference


def test_a_lora_with_magnitudes_needs_them(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tone", tiny_base, DORA)
    change_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".m." in name])
    with pytest.raises(CheckpointError, match=r"lacks encoder\.layer\.0\.attention\.self\.query\.loras\.tone\.m\.wei"):
        _ = open_checkpoint(str(folder)).adapter
