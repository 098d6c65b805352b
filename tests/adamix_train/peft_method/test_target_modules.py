from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor

from adamix_train.mixture.kinds import KINDS
from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route
from adamix_train.peft_method import AdaMixConfig, AdaMixLayer
from adamix_train.peft_method.target_modules import FAMILIES, SITES, default_targets
from tests.fixtures.tiny_models import TASK_TYPES, tiny_inputs, tiny_model

ADAPTED = {
    ("t5", "query_value"): 12,  # 2 layers x (encoder, decoder, cross) x (q, v)
    ("t5", "attention"): 6,
    ("t5", "feed_forward"): 4,
    ("gpt2", "query_value"): 2,
    ("modernbert", "query_value"): 2,
}


ADAPTED |= {("mt5", site): count for (family, site), count in list(ADAPTED.items()) if family == "t5"}


ORDINARY = {"query_value": 4, "attention": 2, "feed_forward": 2}


def adapted(family: str, **fields: object) -> peft.PeftModel:
    config = AdaMixConfig(task_type=TASK_TYPES[family], r=4, num_modules=3, **fields)
    model = peft.get_peft_model(tiny_model(family), config)
    torch.manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, MixtureLinear):
                module.weight.normal_(std=0.3)
    return model


def logits(model: torch.nn.Module, family: str) -> Tensor:
    with torch.inference_mode():
        return model.eval()(**tiny_inputs(family)).logits


def test_every_family_of_the_table_is_tested() -> None:
    assert TASK_TYPES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_site_is_in_every_layer_and_nowhere_else(family: str, site: str) -> None:
    model = adapted(family, sites=[site])
    count = sum(isinstance(module, AdaMixLayer) for module in model.modules())
    assert count == ADAPTED.get((family, site), ORDINARY[site])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_a_checkpoint_and_a_merge_in_every_family(family: str, kind: str, tmp_path: Path) -> None:
    model = adapted(family, kind=kind)
    before = logits(model, family)
    assert not torch.allclose(before, logits(tiny_model(family), family)), "the adapter does something"
    model.train()(**tiny_inputs(family), route=Route(step=0)).logits.sum().backward()
    mixtures = [module for module in model.modules() if isinstance(module, MixtureLinear)]
    assert all(mixture.weight.grad is not None and mixture.weight.grad.any() for mixture in mixtures)
    model.save_pretrained(tmp_path)
    base = tiny_model(family)
    torch.testing.assert_close(logits(peft.PeftModel.from_pretrained(base, tmp_path), family), before)
    merged = model.merge_and_unload()
    assert not any(isinstance(module, AdaMixLayer) for module in merged.modules())
    torch.testing.assert_close(logits(merged, family), before, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "modernbert"])
def test_of_a_fused_projection_only_query_and_value_are_adapted(family: str) -> None:
    model = adapted(family, kind="lora")
    layer = next(module for module in model.modules() if isinstance(module, AdaMixLayer))
    x = torch.randn(2, 5, 16)
    base = layer.get_base_layer()
    query, key, value = (layer.eval()(x) - base(x)).chunk(3, -1)
    assert query.abs().min() > 0
    assert value.abs().min() > 0
    assert not key.any()


def test_sites_are_joined() -> None:
    targets = default_targets(["attention", "feed_forward"], "bert")
    model = adapted("bert", sites=["attention", "feed_forward"])
    assert sum(isinstance(module, AdaMixLayer) for module in model.modules()) == 4
    assert not targets.fused


def test_an_unknown_site_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown site 'head'; known are attention, feed_forward, query_value"):
        default_targets(["head"], "bert")
