from types import SimpleNamespace

import numpy as np
import pytest

from adamix_export.converters.lora_sites import lora_sites, only_adapter
from adamix_export.errors import ExportError

DOWN, UP = np.ones((2, 4), np.float32), np.ones((3, 2), np.float32)
PAIR = {"layer.query.lora.down.weight": DOWN, "layer.query.lora.up.weight": UP}


def adapter(kind: str = "lora", **further: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(card=SimpleNamespace(name="mine", kind=kind), tensors=PAIR | further)


def test_pairs_and_heads_are_told_apart() -> None:
    found = lora_sites(adapter(**{"classifier.head.weight": UP, "classifier.head.bias": DOWN[0]}), "PEFT")
    (module, (down, up)), *others = found.pairs.items()
    assert (module, others, down.shape, up.shape) == ("layer.query", [], (2, 4), (3, 2))
    assert set(found.heads["classifier"]) == {"weight", "bias"}


def test_a_trained_bias_is_refused_by_name() -> None:
    """A LoRA with `bias` has an affine change of its outputs in a bank."""
    shift = {"layer.query.affine.out.weight": UP[:, 0] * 0, "layer.query.affine.out.bias": UP[:, 0]}
    with pytest.raises(
        ExportError, match=r"mine changes the output of layer\.query beside its LoRA .*PEFT does not have"
    ):
        lora_sites(adapter(**shift), "PEFT")


def test_another_kind_is_refused() -> None:
    with pytest.raises(ExportError, match="mine is a houlsby adapter, which PEFT does not have"):
        lora_sites(adapter("houlsby"), "PEFT")


def test_several_adapters_are_refused() -> None:
    with pytest.raises(ExportError, match="a checkpoint is one adapter, and the bundle has mine, mine: choose one"):
        only_adapter([adapter(), adapter()], "a checkpoint")
