from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adamix_export.checkpoint.collapse import collapse_checkpoint
from adamix_export.errors import ExportError
from adamix_train.peft_method import AdaMixConfig

SITE = "base_model.model.encoder.dense.adamix_modules."
HEAD = "base_model.model.classifier."


def checkpoint(*, modules: int, r: int = 2, up_modules: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        SITE + "down.weight": torch.randn(modules, r, 5),
        SITE + "down.bias": torch.randn(modules, r),
        SITE + "up.weight": torch.randn(up_modules, 5, r),
        SITE + "up.bias": torch.randn(up_modules, 5),
        SITE + "down.scores": torch.zeros(modules),
        SITE + "up.scores": torch.zeros(up_modules),
        HEAD + "weight": torch.randn(3, 5),
        HEAD + "bias": torch.randn(3),
    }


def lora(*, modules: int) -> dict[str, torch.Tensor]:
    return {
        name: weight
        for name, weight in checkpoint(modules=modules).items()
        if not name.startswith(SITE) or "bias" not in name
    }


def test_each_projection_is_the_mean_of_its_modules() -> None:
    tensors = checkpoint(modules=3, up_modules=3)
    found = collapse_checkpoint(tensors, AdaMixConfig(kind="houlsby", num_modules=3, r=2, share="none"))
    for name in ("down.weight", "down.bias", "up.weight", "up.bias"):
        modules = tensors[SITE + name]
        by_hand = (modules[0] + modules[1] + modules[2]) / 3
        torch.testing.assert_close(found[f"encoder.dense.houlsby.{name}"], by_hand)
    assert torch.equal(found["classifier.head.weight"], tensors[HEAD + "weight"])
    assert len(found) == 6


def test_scores_weigh_the_mean() -> None:
    tensors = checkpoint(modules=3)
    tensors[SITE + "down.scores"] = torch.tensor([0.5, 0.25, 0.25]).log()
    found = collapse_checkpoint(tensors, AdaMixConfig(kind="houlsby", num_modules=3, r=2))
    for name in ("down.weight", "down.bias"):
        first, second, third = tensors[SITE + name]
        torch.testing.assert_close(found[f"encoder.dense.houlsby.{name}"], first / 2 + second / 4 + third / 4)


def test_blocks_of_a_fused_projection_become_one_adapter_of_the_whole() -> None:
    """Query and value of three blocks of 5, rank 2 each: `up` has a pair in its block and zeros elsewhere."""
    torch.manual_seed(0)
    tensors = {
        SITE + "down.weight": torch.randn(3, 4, 5),
        SITE + "up.weight": torch.randn(1, 10, 2),
        SITE + "down.scores": torch.zeros(3),
        SITE + "up.scores": torch.zeros(1),
    }
    config = AdaMixConfig(kind="lora", num_modules=3, r=2, lora_alpha=6, fused={r"encoder\.dense": [3, 0, 2]})
    found = collapse_checkpoint(tensors, config)
    down, up = found["encoder.dense.lora.down.weight"], found["encoder.dense.lora.up.weight"]
    x = torch.randn(7, 5)
    query, key, value = (x @ down.T @ up.T).chunk(3, -1)
    mean = tensors[SITE + "down.weight"].mean(0)
    torch.testing.assert_close(query, 3 * x @ mean[:2].T @ tensors[SITE + "up.weight"][0, :5].T)
    torch.testing.assert_close(value, 3 * x @ mean[2:].T @ tensors[SITE + "up.weight"][0, 5:].T)
    assert not key.any()


def test_one_module_is_itself() -> None:
    tensors = checkpoint(modules=1)
    found = collapse_checkpoint(tensors, AdaMixConfig(kind="houlsby", num_modules=1, r=2))
    assert torch.equal(found["encoder.dense.houlsby.down.weight"], tensors[SITE + "down.weight"][0])


def test_the_scaling_of_lora_is_folded_into_up() -> None:
    tensors = lora(modules=4)
    found = collapse_checkpoint(tensors, AdaMixConfig(kind="lora", num_modules=4, r=2, lora_alpha=6))
    torch.testing.assert_close(found["encoder.dense.lora.up.weight"], 3 * tensors[SITE + "up.weight"][0])
    torch.testing.assert_close(found["encoder.dense.lora.down.weight"], tensors[SITE + "down.weight"].mean(0))


def test_collapse_changes_nothing_of_what_it_is_given() -> None:
    tensors = lora(modules=4)
    before = {name: weight.clone() for name, weight in tensors.items()}
    collapse_checkpoint(tensors, AdaMixConfig(kind="lora", num_modules=4, r=2, lora_alpha=6))
    assert all(torch.equal(before[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("fields", [{"num_modules": 4}, {"r": 3}, {"share": "none"}, {"kind": "lora"}])
def test_a_mixture_of_another_shape_is_refused(fields: dict[str, object]) -> None:
    config = AdaMixConfig(**{"kind": "houlsby", "num_modules": 3, "r": 2, **fields})
    with pytest.raises(ExportError, match=r"mixture at encoder\.dense does not have the shape"):
        collapse_checkpoint(checkpoint(modules=3), config)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    tensors = checkpoint(modules=3)
    tensors[SITE + "down.weight"][1, 0, 0] = value
    with pytest.raises(ExportError, match=r"encoder\.dense\.houlsby\.down\.weight holds values that are not finite"):
        collapse_checkpoint(tensors, AdaMixConfig(kind="houlsby", num_modules=3, r=2))


def test_a_mixture_and_one_adapter_ship_the_same_parameters(houlsby: Path) -> None:
    mixture = collapse_checkpoint(
        load_file(houlsby / "adapter_model.safetensors"), AdaMixConfig.from_pretrained(str(houlsby))
    )
    plain = {
        name: weight[:1] if ".adamix_modules." in name else weight
        for name, weight in load_file(houlsby / "adapter_model.safetensors").items()
    }
    single = collapse_checkpoint(plain, AdaMixConfig(kind="houlsby", num_modules=1, r=4))
    assert {name: weight.shape for name, weight in mixture.items()} == {
        name: weight.shape for name, weight in single.items()
    }
