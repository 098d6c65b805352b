"""A mixture of one's own loop whose tensors, configuration and base do not fit is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adamix_export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from adamix_export.checkpoint.facts import Facts
from adamix_export.errors import ExportError
from adamix_train.errors import CheckpointError
from adamix_train.peft_method import AdaMixConfig
from tests.fixtures.peft_checkpoints import LABELS, peft_classifier

Tensors = dict[str, torch.Tensor]
HEAD = "base_model.model.classifier."
KEY = "base_model.model.bert.encoder.layer.0.attention.self.key."


@pytest.fixture(scope="module")
def mixed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "tone"
    return peft_classifier(folder, tiny_base, method=AdaMixConfig, kind="lora", num_modules=3, r=2)


@pytest.fixture
def copy(mixed: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(mixed, tmp_path / "tone"))


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), facts=Facts(labels=LABELS))


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def change(folder: Path, **fields: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def require_refused(folder: Path, error: type[Exception], message: str) -> None:
    for read in (lambda one: one.adapter, lambda one: one.reference, lambda one: one.merged()):
        with pytest.raises(error, match=message):
            read(opened(folder))


def test_a_mixture_that_fits_is_read(mixed: Path) -> None:
    checkpoint = opened(mixed)
    head = load_file(mixed / "adapter_model.safetensors")[HEAD + "weight"]
    assert torch.equal(checkpoint.adapter["classifier.head.weight"], head)
    assert torch.equal(checkpoint.merged().classifier.weight, head)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (KEY + "foo.weight", torch.ones(2, 2)),
        ("foo", torch.ones(2)),
        ("base_model.model.bert.encoder.layer.9.attention.self.key.adamix_modules.down.weight", torch.ones(3, 2, 32)),
    ],
)
def test_a_tensor_without_a_place_is_named(name: str, tensor: torch.Tensor, copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.update({name: tensor}))
    require_refused(copy, CheckpointError, rf"^{name} in .* has no place in ")


def test_a_head_of_another_size_is_refused(copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.update({HEAD + "bias": torch.ones(4)}))
    require_refused(copy, CheckpointError, r"classifier\.bias in .* is 4, and .* takes 3")


def test_a_missing_tensor_of_a_head_is_named(copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.pop(HEAD + "bias"))
    require_refused(copy, CheckpointError, r"lacks classifier\.bias, which it was trained with \(modules_to_save\)")


def test_a_module_to_save_that_is_not_stored_is_named(copy: Path) -> None:
    change(copy, modules_to_save=["classifier", "score", "embeddings.LayerNorm"])
    require_refused(copy, CheckpointError, r"lacks bert\.embeddings\.LayerNorm\.weight, .*modules_to_save")


@pytest.mark.parametrize("fields", [{"r": 10**9}, {"r": 10**30}, {"num_modules": 10**12}, {"r": 3}])
def test_nothing_is_allocated_for_a_size_that_is_not_stored(fields: dict[str, object], copy: Path) -> None:
    change(copy, **fields)
    require_refused(copy, ExportError, "does not have the shape that the checkpoint declares")


def test_a_weight_of_another_type_is_refused(copy: Path) -> None:
    change_weights(copy, lambda tensors: tensors.update({HEAD + "bias": torch.ones(3, dtype=torch.int8)}))
    with pytest.raises(CheckpointError, match=r"classifier\.bias in .* is of type int8"):
        opened(copy)
