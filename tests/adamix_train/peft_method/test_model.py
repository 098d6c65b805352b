import copy
import warnings
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    MPNetConfig,
    MPNetForSequenceClassification,
)

from adamix_train.mixture.projection import MixtureLinear
from adamix_train.mixture.routing import Route
from adamix_train.peft_method import AdaMixConfig
from tests.fixtures.adapted_bert import SMALL, adamix, base, inputs, shaken
from tests.fixtures.tiny_models import tiny_model

KINDS = ["houlsby", "lora"]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_equals_a_forward_with_tensors_averaged_by_hand(kind: str) -> None:
    model = shaken(adamix(kind, share="none", num_modules=3)).eval()
    by_hand = copy.deepcopy(model)
    for module in by_hand.modules():
        if isinstance(module, MixtureLinear):
            with torch.no_grad():
                for parameter in module.parameters():
                    mean = sum(parameter[index].clone() for index in range(3)) / 3
                    parameter.copy_(mean.expand_as(parameter))
    by_hand.train()
    for module in by_hand.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    by_hand.config.attention_probs_dropout_prob = 0.0
    torch.testing.assert_close(by_hand(**inputs()).logits, model(**inputs()).logits, atol=1e-5, rtol=1e-4)


def test_evaluation_is_deterministic() -> None:
    model = shaken(adamix()).eval()
    assert torch.equal(model(**inputs()).logits, model(**inputs()).logits)


def test_only_the_mixtures_and_the_head_are_trained() -> None:
    model = adamix()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".adamix_modules." in name or ".classifier.modules_to_save." in name for name in trained)


def test_a_forward_takes_the_route_that_it_is_given() -> None:
    model = adamix()
    model.train()
    model(**inputs(), route=Route(step=9, views=2))
    first = [mixture.route for mixture in model.base_model.mixtures("default").values()]
    model(**inputs(), route=Route(step=10, views=2))
    assert first != [mixture.route for mixture in model.base_model.mixtures("default").values()]
    model(**inputs(), route=Route(step=9, views=2))
    assert first == [mixture.route for mixture in model.base_model.mixtures("default").values()]


def test_without_a_route_every_forward_is_the_next_step() -> None:
    model = adamix()
    model.train()
    routes = []
    for _ in range(8):
        model(**inputs())
        routes.append(tuple(mixture.route for mixture in model.base_model.mixtures("default").values()))
    assert len(set(routes)) > 4


def test_gradient_checkpointing_recomputes_the_same_route() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = shaken(adamix(num_modules=4))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.attention_probs_dropout_prob = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        model.train()
        model(**inputs(), route=Route(step=3, views=2)).logits.pow(2).sum().backward()
        gradients.append([mixture.weight.grad for mixture in model.base_model.mixtures("default").values()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_a_disabled_adapter_is_the_base() -> None:
    model = shaken(adamix()).eval()
    head = model.base_model.model.classifier
    with model.disable_adapter():
        plain = model(**inputs()).logits
    torch.testing.assert_close(plain, base()(**inputs()).logits)
    assert head is model.base_model.model.classifier


@pytest.mark.parametrize("fields", [{"num_modules": 3}, {"r": 5}, {"share": "none"}])
def test_loading_with_another_shape_fails(fields: dict[str, object], tmp_path: Path) -> None:
    adamix().save_pretrained(tmp_path)
    config = AdaMixConfig(task_type="SEQ_CLS", **{"r": 4, **fields})
    with pytest.raises(RuntimeError, match="size mismatch"):
        peft.PeftModel.from_pretrained(base(), tmp_path, config=config)


def test_a_second_adapter_is_independent(tmp_path: Path) -> None:
    model = shaken(adamix()).eval()
    first = model(**inputs()).logits
    model.add_adapter("other", AdaMixConfig(task_type="SEQ_CLS", kind="houlsby", r=2, num_modules=2))
    model.set_adapter("other")
    assert not torch.allclose(model(**inputs()).logits, first)
    model.set_adapter("default")
    torch.testing.assert_close(model(**inputs()).logits, first)


def test_an_unknown_family_lists_the_known_ones_and_the_way_out() -> None:
    model = MPNetForSequenceClassification(MPNetConfig(**SMALL))
    with pytest.raises(ValueError, match=r"model type 'mpnet'; known are bert.*--target-modules"):
        peft.get_peft_model(model, AdaMixConfig(task_type="SEQ_CLS"))


def test_a_checkpoint_holds_no_adapter_name_and_no_base_weight(tmp_path: Path) -> None:
    adamix().save_pretrained(tmp_path)
    names = set(load_file(tmp_path / "adapter_model.safetensors"))
    assert all(
        ".adamix_modules.down." in name or ".adamix_modules.up." in name or ".classifier." in name for name in names
    )
    assert len(names) == 2 * 6 + 2


def test_a_training_loop_without_routes_is_warned_once_that_it_has_no_consistency_loss() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for modules, expected in ((1, 0), (4, 1)):
            config = AdaMixConfig(kind="lora", num_modules=modules, task_type="SEQ_CLS")
            model = peft.get_peft_model(tiny_model("bert"), config)
            ids = torch.tensor([[2, 5, 3]])
            caught.clear()
            model.eval()(input_ids=ids)
            model.train()(input_ids=ids, route=Route(step=0))
            assert not [one for one in caught if "consistency loss" in str(one.message)]
            model(input_ids=ids)
            model(input_ids=ids)
            assert len([one for one in caught if "consistency loss" in str(one.message)]) == expected
